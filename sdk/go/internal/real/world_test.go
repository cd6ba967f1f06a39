// Package real tests the SDK against the sidecar itself, the binary that OUTRIGGER_BIN names, and backends that serve
// HTTP. ../../test sets it.
package real

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

// sidecar is a running `outrigger run` with the cluster `api` of three backends, and listeners `web` and `raw` before
// it.
type sidecar struct {
	t      *testing.T
	config string
	// control is the address of its control API.
	control string
	command *exec.Cmd
	exited  chan struct{}
	// listeners are their addresses by name.
	listeners map[string]string
	backends  []string
}

// start has the control API on a unix socket.
func start(t *testing.T) *sidecar {
	t.Helper()
	return startWith(t, fmt.Sprintf("listen = %q", "unix:"+filepath.Join(tempDir(t), "control.sock")))
}

// startWith has these lines in the section `control`.
func startWith(t *testing.T, control string) *sidecar {
	t.Helper()
	if os.Getenv("OUTRIGGER_BIN") == "" {
		t.Skip("OUTRIGGER_BIN does not name the sidecar's binary: sdk/go/test sets it")
	}
	s := &sidecar{t: t, config: filepath.Join(tempDir(t), "outrigger.toml")}
	for range 3 {
		s.backends = append(s.backends, newBackend(t))
	}
	must(t, os.WriteFile(s.config, []byte(s.toml(control)), 0o600))
	s.run()
	t.Cleanup(s.kill)
	return s
}

// tempDir is one with a short path, as sockets must have.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "outrigger")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *sidecar) toml(control string) string {
	endpoints := make([]string, len(s.backends))
	for i, backend := range s.backends {
		endpoints[i] = fmt.Sprintf(`{ address = %q }`, backend)
	}
	return fmt.Sprintf(`
[control]
%s
[listeners.web]
listen = "127.0.0.1:0"
cluster = "api"
[listeners.raw]
listen = "127.0.0.1:0"
protocol = "tcp"
proxy_protocol = true
trusted_cidrs = ["127.0.0.0/8"]
cluster = "api"
[clusters.api.discovery]
source = "static"
endpoints = [%s]
`, control, strings.Join(endpoints, ", "))
}

// run starts the binary and waits until it has started.
func (s *sidecar) run() {
	s.t.Helper()
	command := exec.Command(os.Getenv("OUTRIGGER_BIN"), "run", "-c", s.config)
	command.Env = append(os.Environ(), "OUTRIGGER_ADMIN__LISTEN=127.0.0.1:0", "OUTRIGGER_LOG__FORMAT=json")
	log, err := command.StderrPipe()
	must(s.t, err)
	must(s.t, command.Start())
	started := make(chan struct{})
	said := &strings.Builder{}
	exited := make(chan struct{})
	control, listeners := "", map[string]string{}
	go func() {
		defer close(exited)
		begun := false
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if begun {
				continue
			}
			var event struct{ Message, Listener, Address, Control string }
			_ = json.Unmarshal(lines.Bytes(), &event)
			switch event.Message {
			case "listening":
				listeners[event.Listener] = event.Address
			case "started":
				control = event.Control
			}
			fmt.Fprintln(said, lines.Text())
			if begun = control != "" && len(listeners) == 2; begun {
				close(started)
			}
		}
		_ = command.Wait()
	}()
	s.command, s.exited = command, exited
	select {
	case <-started:
		s.control, s.listeners = control, listeners
	case <-exited:
		s.t.Fatalf("the sidecar has ended:\n%s", said)
	case <-time.After(20 * time.Second):
		s.kill()
		s.t.Fatalf("the sidecar has not started in 20 s:\n%s", said)
	}
}

// kill ends it as a crash does.
func (s *sidecar) kill() {
	_ = s.command.Process.Kill()
	<-s.exited
}

func (s *sidecar) client(options ...outrigger.Option) *outrigger.Client {
	s.t.Helper()
	client, err := outrigger.Dial(append([]outrigger.Option{outrigger.WithAddress(s.control)}, options...)...)
	must(s.t, err)
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// ask is which backend answers a request through the listener `web`, with the affinity key of the context.
func (s *sidecar) ask(ctx context.Context) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.listeners["web"], nil)
	must(s.t, err)
	client := &http.Client{Transport: outrigger.AffinityTransport{}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	must(s.t, err)
	return answer(s.t, response)
}

// answers are how often each backend answers n requests.
func (s *sidecar) answers(n int) map[string]int {
	s.t.Helper()
	answers := map[string]int{}
	for range n {
		answers[s.ask(s.t.Context())]++
	}
	return answers
}

// backend is what the sidecar says of one.
func (s *sidecar) backend(client *outrigger.Client, name string) outrigger.Backend {
	s.t.Helper()
	clusters, err := client.Clusters(s.t.Context(), "api")
	must(s.t, err)
	for _, backend := range clusters[0].Backends {
		if backend.Name == name {
			return backend
		}
	}
	s.t.Fatalf("no backend %s in %v", name, clusters)
	return outrigger.Backend{}
}

// newBackend serves its own address.
func newBackend(t *testing.T) string {
	var address string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key := r.Header.Get(outrigger.AffinityHeader); key != "" {
			t.Errorf("a backend sees the key %q", key)
		}
		_, _ = io.WriteString(w, address)
	}))
	address = server.Listener.Addr().(*net.TCPAddr).String()
	server.Start()
	t.Cleanup(server.Close)
	return address
}

func answer(t *testing.T, response *http.Response) string {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %s", response.StatusCode, body)
	}
	return string(body)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within waits for what others do in their own time.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
	}
}
