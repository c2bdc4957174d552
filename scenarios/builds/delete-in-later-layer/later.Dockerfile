FROM base
RUN curl -O https://example.org/sdk.tar
RUN tar xf sdk.tar
RUN rm sdk.tar
