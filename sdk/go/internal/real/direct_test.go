package real

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

func TestABalancerPicksAsTheSidecarDoes(t *testing.T) {
	s := start(t)
	client := s.client()
	ctx, one, two := t.Context(), s.backends[0], s.backends[1]
	b := client.NewBalancer("api")
	t.Cleanup(b.Close)
	_, err := client.SetWeight(ctx, "api", one, 0, time.Minute)
	must(t, err)
	_, err = client.SetAffinity(ctx, "api", "session", one, time.Minute)
	must(t, err)
	picks := func(n int, key string) map[string]int {
		picked := map[string]int{}
		for range n {
			backend, err := b.Pick(ctx, key)
			must(t, err)
			picked[backend]++
		}
		return picked
	}
	within(t, time.Second, "picks follow the weight", func() bool { return picks(100, "")[one] == 0 })
	if picked := picks(50, "session"); picked[one] != 50 {
		t.Errorf("the key led to %v", picked)
	}
	for range 5 {
		b.Report(two, outrigger.OutcomeReset, 0)
	}
	within(t, time.Second, "picks follow what was reported", func() bool { return picks(100, "")[two] == 0 })

	s.kill()
	if picked := picks(100, ""); len(picked) != 1 || picked[s.backends[2]] != 100 {
		t.Errorf("without a sidecar: %v", picked)
	}
	if picked := picks(100, "session"); picked[one] != 100 {
		t.Errorf("without a sidecar the key led to %v", picked)
	}
}

func TestGRPCPicksAsTheSidecarDoes(t *testing.T) {
	s := start(t)
	// The same cluster, of backends that speak gRPC.
	for i := range s.backends {
		s.backends[i] = newGRPCBackend(t)
	}
	s.kill()
	must(t, os.WriteFile(s.config, []byte(s.toml(fmt.Sprintf("listen = %q", s.control))), 0o600))
	s.run()
	client := s.client()
	ctx, one := t.Context(), s.backends[0]
	_, err := client.SetWeight(ctx, "api", one, 0, time.Minute)
	must(t, err)
	_, err = client.SetAffinity(ctx, "api", "session", one, time.Minute)
	must(t, err)

	conn, err := grpc.NewClient("outrigger:///api", grpc.WithResolvers(client.Resolver()),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	call := func(ctx context.Context) string {
		var from peer.Peer
		_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&from))
		must(t, err)
		return from.Addr.String()
	}
	called := map[string]bool{}
	within(t, 5*time.Second, "the others are called", func() bool {
		called[call(ctx)] = true
		return len(called) == 2
	})
	if called[one] {
		t.Error("who has no share was called")
	}
	for range 10 {
		if backend := call(outrigger.WithAffinity(ctx, "session")); backend != one {
			t.Errorf("the key led to %s", backend)
		}
	}
	s.kill()
	for range 10 {
		if backend := call(ctx); backend == one {
			t.Error("without a sidecar: who has no share was called")
		}
	}
}

func newGRPCBackend(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestTheExampleDeploys(t *testing.T) {
	s := start(t)
	client := s.client()
	old, next := s.backends[0], s.backends[1]
	// The third one is not part of it.
	_, err := client.SetWeight(t.Context(), "api", s.backends[2], 0, time.Hour)
	must(t, err)
	binary := filepath.Join(t.TempDir(), "deploy")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = "../../../../examples/go"
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	deploy := exec.CommandContext(ctx, binary, "http://"+s.listeners["web"], "api", old, next)
	deploy.Env = append(os.Environ(), "OUTRIGGER_CONTROL="+s.control)
	output, err := deploy.CombinedOutput()
	must(t, err)
	text := string(output)
	for _, want := range []string{
		"50% new: map[", "the session at " + old,
		"100% new: map[" + next + ":20]",
		"drained, 0 by force: the session at " + next,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	within(t, time.Second, "nothing that it has ordered outlives it", func() bool {
		return len(s.backend(client, old).Orders) == 0 && len(s.backend(client, next).Orders) == 0
	})
}
