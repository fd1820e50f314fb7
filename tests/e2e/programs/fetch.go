// METHOD URL: print the body, with Go's default client.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	request, err := http.NewRequest(os.Args[1], os.Args[2], nil)
	if err != nil {
		panic(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, response.Body)
	if response.StatusCode >= 400 {
		fmt.Fprintln(os.Stderr, response.Status)
		os.Exit(22)
	}
}
