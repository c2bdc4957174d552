FROM base
WORKDIR /app
COPY . .
RUN go mod download
RUN go build -o main
