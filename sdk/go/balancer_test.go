package outrigger

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

func TestPicksFollowTheShares(t *testing.T) {
	f := newFake(t)
	f.serves(answer{[]*pb.WatchClusterResponse{set(1, "full a:1=1 b:1=3 c:1=0")}, nil})
	b := newBalancer(t, f)
	picked := map[string]int{}
	for range 4000 {
		backend, err := b.Pick(t.Context(), "")
		must(t, err)
		picked[backend]++
	}
	// 1000 are expected, with a standard deviation of 27.
	if picked["a:1"] < 850 || picked["a:1"] > 1150 || picked["c:1"] != 0 {
		t.Errorf("picked: %v", picked)
	}
}

func TestAKeyIsAskedForOnceAndAgainWhenTheViewChanges(t *testing.T) {
	f := newFake(t)
	next := f.pushes()
	next <- set(1, "full a:1=1 pinned-key=0")
	b := newBalancer(t, f)
	for range 100 {
		// The name that the fake gives; a share of 0 does not matter.
		if backend, err := b.Pick(t.Context(), "key"); backend != "pinned-key" {
			t.Fatalf("a key led to %q, %v", backend, err)
		}
	}
	if asked := len(f.asked()); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	next <- set(2, "-pinned-key")
	eventually(t, "a key does not lead to who is gone", func() bool {
		backend, _ := b.Pick(t.Context(), "key")
		return backend == "a:1"
	})
	if asked := len(f.asked()); asked < 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestTheLastViewStaysWhenTheSidecarDies(t *testing.T) {
	f := newFake(t)
	f.serves(answer{[]*pb.WatchClusterResponse{set(1, "full a:1=1 pinned-key=0")}, nil})
	b := newBalancer(t, f)
	_, err := b.Pick(t.Context(), "key")
	must(t, err)
	f.server.Stop()
	end := time.Now().Add(keyAge + 100*time.Millisecond)
	for time.Now().Before(end) {
		begin := time.Now()
		for key, want := range map[string]string{"": "a:1", "key": "pinned-key", "another": "a:1"} {
			if backend, err := b.Pick(t.Context(), key); backend != want {
				t.Fatalf("key %q led to %q, %v", key, backend, err)
			}
		}
		if passed := time.Since(begin); passed > 2*askTimeout {
			t.Errorf("three picks took %v", passed)
		}
	}
}

func TestWithoutASidecarPicksFail(t *testing.T) {
	f := newFake(t)
	f.server.Stop()
	_, err := newBalancer(t, f).Pick(t.Context(), "")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a sidecar: %v", err)
	}
	f.start(t)
	f.serves(answer{[]*pb.WatchClusterResponse{set(1, "full a:1=0")}, nil})
	if _, err = newBalancer(t, f).Pick(t.Context(), ""); !errors.Is(err, ErrNoBackend) {
		t.Errorf("without a share: %v", err)
	}
	// A view that never comes.
	f.serves()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = newBalancer(t, f).Pick(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a view: %v", err)
	}
}

func TestOutcomesAreReportedTogether(t *testing.T) {
	f := newFake(t)
	f.serves(answer{nil, status.Error(codes.NotFound, "")})
	b := newBalancer(t, f)
	for range 1500 {
		b.Report("a:1", OutcomeSuccess, 10*time.Millisecond)
		b.Report("a:1", OutcomeSuccess, 0)
	}
	b.Report("b:1", OutcomeReset, 0)
	b.Close()
	counts := map[string]uint32{}
	for _, request := range f.asked() {
		report := request.(*pb.ReportOutcomeRequest)
		what := fmt.Sprintf("%s %v %v", report.GetBackend(), report.GetOutcome(), report.GetLatency().AsDuration())
		counts[what] += report.GetCount()
		if report.GetCount() > 1000 {
			t.Errorf("too many at a time: %v", proto.Message(report))
		}
	}
	if counts["b:1 OUTCOME_RESET 0s"] != 1 || counts["a:1 OUTCOME_SUCCESS 10ms"] != 3000 {
		t.Errorf("reported: %v", counts)
	}
}

func newBalancer(t *testing.T, f *fake) *Balancer {
	b := f.client(t).NewBalancer("api")
	t.Cleanup(b.Close)
	return b
}
