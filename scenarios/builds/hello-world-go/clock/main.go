package main

import (
	"fmt"
	"net/http"
	"time"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, time.Now())
	})
	fmt.Println("Serving on port 8080")
	http.ListenAndServe(":8080", nil)
}
