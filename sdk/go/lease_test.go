package outrigger

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

func TestALeaseGivesItsOrdersAgainToASidecarThatHasRestarted(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	ctx := t.Context()
	_, err := lease.SetWeight(ctx, "api", "a:1", 5)
	must(t, err)
	_, err = lease.SetWeight(ctx, "api", "a:1", 6)
	must(t, err)
	_, err = lease.SetWeight(ctx, "api", "b:1", 7)
	must(t, err)
	_, err = lease.ClearWeight(ctx, "api", "b:1")
	must(t, err)
	_, err = lease.SetAffinity(ctx, "api", "key", "")
	must(t, err)

	f.server.Stop()
	f.start(t)
	eventually(t, "both orders are given again", func() bool { return len(f.asked()) == 2 })
	asked := f.asked()
	weight := slices.IndexFunc(asked, func(m proto.Message) bool { _, ok := m.(*pb.SetWeightRequest); return ok })
	if weight < 0 || asked[weight].(*pb.SetWeightRequest).GetWeight() != 6 {
		t.Fatalf("given again: %v", asked)
	}
	pin, ok := asked[1-weight].(*pb.SetAffinityRequest)
	if !ok || pin.GetBackend() != "where-it-lives:80" {
		t.Errorf("the pin: %v", pin)
	}
	if want := f.opened(); len(want) != 1 || pin.GetLeaseId() != want[0] {
		t.Errorf("the pin names %s of %v", pin.GetLeaseId(), want)
	}
	if !slices.Equal(f.owners, []string{"deployer", "deployer"}) {
		t.Errorf("owners: %v", f.owners)
	}
}

func TestOrdersForBackendsThatAreNotKnownYetWait(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	_, err := lease.Drain(t.Context(), "api", "a:1", ConfiguredTimeout)
	if !errors.Is(err, ErrOther) {
		t.Fatalf("the fake does not drain: %v", err)
	}
	_, err = lease.SetWeight(t.Context(), "api", "a:1", 5)
	must(t, err)

	f.setRefuse(func(proto.Message) error {
		return refusal(codes.NotFound, &errdetails.ResourceInfo{ResourceType: "backend", ResourceName: "a:1"})
	})
	f.server.Stop()
	f.start(t)
	eventually(t, "the order is refused", func() bool { return len(f.asked()) > 1 })
	f.setRefuse(nil)
	before := len(f.asked())
	eventually(t, "the order is given", func() bool { return len(f.asked()) > before })
	for _, request := range f.asked() {
		if _, ok := request.(*pb.SetWeightRequest); !ok {
			t.Errorf("an order that failed was given again: %v", request)
		}
	}
}

func TestOrdersAreNotGivenAgainFasterThanTheSidecarWants(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	for i := range 20 {
		_, err := lease.SetAffinity(t.Context(), "api", strconv.Itoa(i), "a:1")
		must(t, err)
	}
	given := 0
	f.setRefuse(func(proto.Message) error {
		if given++; given%6 == 0 {
			return refusal(codes.ResourceExhausted, &errdetails.RetryInfo{})
		}
		return nil
	})
	f.server.Stop()
	f.start(t)
	// Three are refused: what follows one waits.
	eventually(t, "all are given again", func() bool { return len(f.asked()) == 23 })
}

func TestALeaseThatTheSidecarHasEndedIsOpenedAgain(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	_, err := lease.SetWeight(t.Context(), "api", "a:1", 5)
	must(t, err)
	// As if the answer came from another life, and the stream's end were still to be noticed.
	first := f.opened()[0]
	f.endLease(first)
	_, err = lease.SetWeight(t.Context(), "api", "b:1", 6)
	must(t, err)
	asked := f.asked()
	last := asked[len(asked)-1].(*pb.SetWeightRequest)
	if last.GetBackend() != "b:1" || last.GetLeaseId() == first {
		t.Errorf("the last order: %v", last)
	}
	again := asked[len(asked)-2].(*pb.SetWeightRequest)
	if again.GetBackend() != "a:1" || again.GetLeaseId() != last.GetLeaseId() {
		t.Errorf("the one before: %v", again)
	}
}

func TestOrdersOfALeaseFailWhileTheSidecarIsAway(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	f.server.Stop()
	begin := time.Now()
	_, err := lease.SetWeight(t.Context(), "api", "a:1", 5)
	if !errors.Is(err, ErrUnavailable) || time.Since(begin) > 2*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	f.start(t)
	eventually(t, "the lease is open again", func() bool { return len(f.opened()) == 1 })
	if asked := f.asked(); len(asked) != 0 {
		t.Errorf("an order that failed was given again: %v", asked)
	}
}

func TestALeaseThatEndsAsSoonAsItBeginsIsNotOpenedAllTheTime(t *testing.T) {
	f := newFake(t)
	f.hasty = true
	begin := time.Now()
	openLease(t, f)
	count := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.owners)
	}
	eventually(t, "it is opened again", func() bool { return count() >= 5 })
	if opened, most := count(), 1+int(time.Since(begin)/firstPause); opened > most {
		t.Errorf("opened %d times in %v", opened, time.Since(begin))
	}
}

func TestTheEndOfALease(t *testing.T) {
	f := newFake(t)
	lease := openLease(t, f)
	must(t, lease.Close())
	if left := f.opened(); len(left) != 0 {
		t.Errorf("still open: %v", left)
	}
	_, err := lease.SetWeight(t.Context(), "api", "a:1", 5)
	if !errors.Is(err, ErrCanceled) {
		t.Errorf("an order of a closed lease: %v", err)
	}
	must(t, lease.Close())

	client := f.client(t)
	_, err = client.OpenLease(t.Context())
	must(t, err)
	must(t, client.Close())
	eventually(t, "it ends with its client", func() bool { return len(f.opened()) == 0 })
}

func openLease(t *testing.T, f *fake) *Lease {
	lease, err := f.client(t, WithOwner("deployer")).OpenLease(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = lease.Close() })
	return lease
}
