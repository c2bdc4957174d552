FROM base
RUN fetch runtime
RUN fetch model
RUN fetch assets
