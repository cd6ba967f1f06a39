package outrigger

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// newBackend is a backend that speaks gRPC: its address, and what ends it.
func newBackend(t *testing.T) (string, *grpc.Server) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server
}

// caller says where a call with this key has gone.
func caller(t *testing.T, client *Client) func(ctx context.Context) (string, error) {
	conn, err := grpc.NewClient("outrigger:///api", grpc.WithResolvers(client.Resolver()),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	stub := grpc_health_v1.NewHealthClient(conn)
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var from peer.Peer
		_, err := stub.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&from))
		if err != nil {
			return "", err
		}
		return from.Addr.String(), nil
	}
}

func TestGRPCPicksAsTheSidecarDoes(t *testing.T) {
	f := newFake(t)
	a, _ := newBackend(t)
	b, _ := newBackend(t)
	idle, _ := newBackend(t)
	f.leadsTo("session", idle)
	f.serves(answer{[]*pb.WatchClusterResponse{set(1, fmt.Sprintf("full %s=1 %s=3 %s=0", a, b, idle))}, nil})
	call := caller(t, f.client(t))
	// Both must be connected to before shares can be seen.
	seen := map[string]bool{}
	eventually(t, "both are called", func() bool {
		backend, err := call(t.Context())
		must(t, err)
		seen[backend] = true
		return len(seen) == 2
	})
	called := map[string]int{}
	for range 800 {
		backend, err := call(t.Context())
		must(t, err)
		called[backend]++
	}
	// 200 are expected, with a standard deviation of 12.
	if called[a] < 130 || called[a] > 270 || called[idle] != 0 {
		t.Errorf("called: %v", called)
	}
	for range 10 {
		if backend, err := call(WithAffinity(t.Context(), "session")); backend != idle {
			t.Fatalf("the key led to %q, %v", backend, err)
		}
	}

	f.server.Stop()
	for range 10 {
		_, err := call(t.Context())
		must(t, err)
		if backend, err := call(WithAffinity(t.Context(), "session")); backend != idle {
			t.Fatalf("without a sidecar the key led to %q, %v", backend, err)
		}
	}
}

func TestGRPCFollowsTheViewAndReports(t *testing.T) {
	f := newFake(t)
	a, server := newBackend(t)
	b, _ := newBackend(t)
	next := f.pushes()
	next <- set(1, "full "+a+"=1 "+b+"=0")
	call := caller(t, f.client(t))
	if backend, err := call(t.Context()); backend != a {
		t.Fatalf("called %q, %v", backend, err)
	}
	server.Stop()
	eventually(t, "that a is gone is reported", func() bool { return f.reported(a, pb.Outcome_OUTCOME_CONNECT_FAILED) })
	if backend, err := call(t.Context()); status.Code(err) != codes.Unavailable {
		t.Fatalf("without anybody %q was called, %v", backend, err)
	}
	next <- set(2, b+"=1 -"+a)
	eventually(t, "calls go to b", func() bool { backend, _ := call(t.Context()); return backend == b })
	eventually(t, "that is reported", func() bool { return f.reported(b, pb.Outcome_OUTCOME_SUCCESS) })
	next <- set(3, "-"+b)
	eventually(t, "calls fail when nobody is left", func() bool {
		_, err := call(t.Context())
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "no backend")
	})
}

func TestGRPCWithoutASidecarFailsAtOnce(t *testing.T) {
	f := newFake(t)
	f.server.Stop()
	backend, err := caller(t, f.client(t))(t.Context())
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%q, %v", backend, err)
	}
}

func (f *fake) reported(backend string, outcome pb.Outcome) bool {
	for _, request := range f.asked() {
		report, ok := request.(*pb.ReportOutcomeRequest)
		if ok && report.GetBackend() == backend && report.GetOutcome() == outcome {
			return true
		}
	}
	return false
}
