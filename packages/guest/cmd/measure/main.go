// Measure times the guest's calls over one warm HTTP/2 connection, and prints minimum, median and 95th percentile in milliseconds.
//
//	measure --url http://10.0.0.2:7000 --token T [--count 60] [--pause 20ms]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"sort"
	"strings"
	"time"
)

type trial struct {
	name, method, path, body string
}

func main() {
	url := flag.String("url", "http://127.0.0.1:7000", "the guest")
	token := flag.String("token", "", "the token in force")
	count := flag.Int("count", 60, "requests of each kind")
	pause := flag.Duration("pause", 20*time.Millisecond, "pause before each request")
	only := flag.String("only", "", "part of the name of the trials to run")
	flag.Parse()

	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 30 * time.Second}
	send := func(t trial) {
		request, err := http.NewRequest(t.method, *url+t.path, strings.NewReader(t.body))
		if err != nil {
			log.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+*token)
		response, err := client.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode >= 300 {
			log.Fatalf("%s: %d %v %s", t.name, response.StatusCode, err, answer)
		}
	}
	send(trial{"file", "PUT", "/v1/files/content?path=/tmp/measured&parents=1", string(bytes.Repeat([]byte("x"), 1024))})
	for _, t := range []trial{
		{"health", "GET", "/v1/health", ""},
		{"read 1 KiB", "GET", "/v1/files/content?path=/tmp/measured", ""},
		{"write 1 KiB", "PUT", "/v1/files/content?path=/tmp/measured", strings.Repeat("y", 1024)},
		{"argv /bin/true", "POST", "/v1/processes", `{"argv":["/bin/true"],"waitMs":10000}`},
		{"argv echo hi", "POST", "/v1/processes", `{"argv":["echo","hi"],"waitMs":10000}`},
		{"shell echo hi", "POST", "/v1/processes", `{"shell":"echo hi","waitMs":10000}`},
		{"shell dash echo hi", "POST", "/v1/processes", `{"argv":["/bin/dash","-c","echo hi"],"waitMs":10000}`},
	} {
		if !strings.Contains(t.name, *only) {
			continue
		}
		send(t)
		took := make([]float64, *count)
		for index := range took {
			time.Sleep(*pause)
			begun := time.Now()
			send(t)
			took[index] = float64(time.Since(begun).Microseconds()) / 1000
		}
		sort.Float64s(took)
		fmt.Printf("%-20s %7.2f %7.2f %7.2f\n", t.name, took[0], took[len(took)/2], took[len(took)*95/100])
	}
}
