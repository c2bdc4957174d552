FROM base
RUN fetch runtime model assets
