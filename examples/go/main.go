// A deploy that the app steers: new work moves to the new backend step by step, a session stays where it is, and
// whatever happens to this process, nothing that it has ordered outlives it. The arguments are a listener of the
// sidecar, the cluster behind it, its old and its new backend:
//
//	go run . http://127.0.0.1:8080 api 127.0.0.1:9001 127.0.0.1:9002
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: go run . URL CLUSTER OLD NEW")
	}
	if err := deploy(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

func deploy(ctx context.Context, url, cluster, old, next string) error {
	sidecar, err := outrigger.Dial(outrigger.WithOwner("deploy"))
	if err != nil {
		return err
	}
	defer sidecar.Close()
	lease, err := sidecar.OpenLease(ctx)
	if err != nil {
		return err
	}
	defer lease.Close()

	session := outrigger.WithAffinity(ctx, "session-42")
	if _, err := lease.SetAffinity(ctx, cluster, "session-42", old); err != nil {
		return err
	}
	for _, percent := range []uint32{10, 50, 100} {
		if _, err := lease.SetWeight(ctx, cluster, next, percent); err != nil {
			return err
		}
		if _, err := lease.SetWeight(ctx, cluster, old, 100-percent); err != nil {
			return err
		}
		answers := map[string]int{}
		for range 20 {
			answers[get(ctx, url)]++
		}
		fmt.Printf("%d%% new: %v, the session at %s\n", percent, answers, get(session, url))
	}
	if _, err := lease.Drain(ctx, cluster, old, 10*time.Second); err != nil {
		return err
	}
	forced, _, err := sidecar.WaitDrained(ctx, cluster, old)
	fmt.Printf("drained, %d by force: the session at %s\n", forced, get(session, url))
	return err
}

// get is what the backend answers, or why it does not.
func get(ctx context.Context, url string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	response, err := (&http.Client{Transport: outrigger.AffinityTransport{}}).Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
	return string(body)
}
