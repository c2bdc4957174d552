FROM base
RUN curl -O https://example.org/sdk.tar && tar xf sdk.tar && rm sdk.tar
