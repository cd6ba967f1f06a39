package real

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

// refused checks the kind of an error, and the resource or the field that it names.
func refused(t *testing.T, err, kind error, named string) {
	t.Helper()
	e, ok := errors.AsType[*outrigger.Error](err)
	if !ok || !errors.Is(err, kind) {
		t.Errorf("%v: want %v", err, kind)
		return
	}
	for _, violation := range e.Violations {
		if violation.Field == named {
			return
		}
	}
	if e.Resource.Type != named {
		t.Errorf("%v names %q and %q: want %q", err, e.Resource, e.Violations, named)
	}
}

func TestClusters(t *testing.T) {
	s := start(t)
	client := s.client()
	clusters, err := client.Clusters(t.Context(), "")
	must(t, err)
	if len(clusters) != 1 || clusters[0].Name != "api" || clusters[0].Policy != "round_robin" {
		t.Fatalf("clusters: %+v", clusters)
	}
	if len(clusters[0].Backends) != len(s.backends) {
		t.Errorf("backends: %+v", clusters[0].Backends)
	}
	for _, backend := range clusters[0].Backends {
		if backend.State != outrigger.StateReady || backend.Share == 0 || backend.Source != "static" {
			t.Errorf("backend: %+v", backend)
		}
	}
	_, err = client.Clusters(t.Context(), "apo")
	refused(t, err, outrigger.ErrNotFound, "cluster")
}

func TestWeights(t *testing.T) {
	s := start(t)
	client := s.client(outrigger.WithOwner("deploy"))
	ctx, one := t.Context(), s.backends[0]

	backend, err := client.SetWeight(ctx, "api", one, 0, time.Minute)
	must(t, err)
	if backend.EffectiveWeight != 0 || backend.Share != 0 || backend.ConfiguredWeight != 1 {
		t.Errorf("with a weight: %+v", backend)
	}
	order := backend.Orders[0]
	if order.Owner != "deploy" || order.Kind != "weight" || order.Leased || time.Until(order.ExpiresAt) < 50*time.Second {
		t.Errorf("the order: %+v", order)
	}
	if answers := s.answers(10); answers[one] != 0 || len(answers) != 2 {
		t.Errorf("answers: %v", answers)
	}
	backend, err = client.ClearWeight(ctx, "api", one)
	must(t, err)
	if backend.EffectiveWeight != 1 || len(backend.Orders) != 0 {
		t.Errorf("taken back: %+v", backend)
	}

	backend, err = client.ScaleWeight(ctx, "api", one, 2.5, 200*time.Millisecond)
	must(t, err)
	if backend.EffectiveWeight != 2.5 || backend.Orders[0].Kind != "factor" || backend.Orders[0].Value != 2.5 {
		t.Errorf("scaled: %+v", backend)
	}
	within(t, time.Second, "the TTL ends the order", func() bool {
		backend := s.backend(client, one)
		return backend.EffectiveWeight == 1 && len(backend.Orders) == 0
	})

	_, err = client.SetWeight(ctx, "apo", one, 1, time.Minute)
	refused(t, err, outrigger.ErrNotFound, "cluster")
	_, err = client.SetWeight(ctx, "api", "192.0.2.1:1", 1, time.Minute)
	refused(t, err, outrigger.ErrNotFound, "backend")
	_, err = client.SetWeight(ctx, "api", one, 65536, time.Minute)
	refused(t, err, outrigger.ErrInvalid, "weight")
	_, err = client.SetWeight(ctx, "api", one, 1, 0)
	refused(t, err, outrigger.ErrInvalid, "ttl")
	_, err = client.SetWeight(ctx, "api", one, 1, 25*time.Hour)
	refused(t, err, outrigger.ErrInvalid, "ttl")
	_, err = client.ScaleWeight(ctx, "api", one, -1, time.Minute)
	refused(t, err, outrigger.ErrInvalid, "factor")
	_, err = s.client(outrigger.WithOwner("admin")).SetWeight(ctx, "api", one, 1, time.Minute)
	refused(t, err, outrigger.ErrInvalid, "owner")
	_, err = client.ClearWeight(ctx, "api", "192.0.2.1:1")
	refused(t, err, outrigger.ErrNotFound, "backend")
	// An app on the socket may steer, and is no operator.
	_, err = client.ClearWeights(ctx, "api", one)
	refused(t, err, outrigger.ErrDenied, "")
	if orders := s.backend(client, one).Orders; len(orders) != 0 {
		t.Errorf("a call that failed has left %+v", orders)
	}
}

func TestAffinity(t *testing.T) {
	s := start(t)
	client := s.client()
	ctx, home := t.Context(), s.backends[1]
	keyed := outrigger.WithAffinity(ctx, "session")

	pinned, err := client.SetAffinity(ctx, "api", "session", home, time.Minute)
	must(t, err)
	if pinned != home {
		t.Errorf("pinned to %s", pinned)
	}
	for range 6 {
		if backend := s.ask(keyed); backend != home {
			t.Errorf("a request with the key went to %s", backend)
		}
		if backend := s.connect("session"); backend != home {
			t.Errorf("a connection with the key went to %s", backend)
		}
	}
	lead, err := client.Affinity(ctx, "api", "session")
	must(t, err)
	if lead.Backend != home || lead.Reason != outrigger.ReasonPin || lead.PinnedTo != home || lead.Pin.Owner != "sdk" {
		t.Errorf("the key leads: %+v", lead)
	}
	// Where it lives now, it is to stay.
	pinned, err = client.SetAffinity(ctx, "api", "session", "", time.Minute)
	must(t, err)
	if pinned != home {
		t.Errorf("without a backend pinned to %s", pinned)
	}
	cleared, err := client.ClearAffinity(ctx, "api", "session")
	must(t, err)
	again, err := client.ClearAffinity(ctx, "api", "session")
	must(t, err)
	if !cleared || again {
		t.Errorf("cleared: %v, then %v", cleared, again)
	}
	lead, err = client.Affinity(ctx, "api", "session")
	must(t, err)
	if lead.Reason != outrigger.ReasonPolicy || lead.Pin != nil {
		t.Errorf("without a pin the key leads: %+v", lead)
	}

	for _, key := range []string{"", strings.Repeat("k", 257)} {
		_, err = client.SetAffinity(ctx, "api", key, home, time.Minute)
		refused(t, err, outrigger.ErrInvalid, "key")
		_, err = client.Affinity(ctx, "api", key)
		refused(t, err, outrigger.ErrInvalid, "key")
		_, err = client.ClearAffinity(ctx, "api", key)
		refused(t, err, outrigger.ErrInvalid, "key")
	}
	_, err = client.SetAffinity(ctx, "api", "session", "192.0.2.1:1", time.Minute)
	refused(t, err, outrigger.ErrNotFound, "backend")
	_, err = client.SetAffinity(ctx, "api", "session", home, 0)
	refused(t, err, outrigger.ErrInvalid, "ttl")
	_, err = client.SetAffinity(ctx, "apo", "session", home, time.Minute)
	refused(t, err, outrigger.ErrNotFound, "cluster")
	_, err = client.Affinity(ctx, "apo", "session")
	refused(t, err, outrigger.ErrNotFound, "cluster")
	_, err = client.ClearAffinity(ctx, "apo", "session")
	refused(t, err, outrigger.ErrNotFound, "cluster")
}

// connect is which backend answers a connection through the listener `raw` that says this key.
func (s *sidecar) connect(key string) string {
	s.t.Helper()
	connection, err := net.Dial("tcp", s.listeners["raw"])
	must(s.t, err)
	defer func() { _ = connection.Close() }()
	header, err := outrigger.ProxyHeader(key, netip.AddrPort{}, netip.AddrPort{})
	must(s.t, err)
	_, err = connection.Write(append(header, "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n"...))
	must(s.t, err)
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	must(s.t, err)
	return answer(s.t, response)
}

func TestDrains(t *testing.T) {
	s := start(t)
	client := s.client()
	ctx, one := t.Context(), s.backends[0]

	backend, err := client.Drain(ctx, "api", one, 10*time.Second, time.Minute)
	must(t, err)
	left := time.Until(backend.DrainDeadline)
	if backend.State != outrigger.StateDraining || left < 8*time.Second || left > 10*time.Second {
		t.Errorf("drains: %+v", backend)
	}
	if answers := s.answers(10); answers[one] != 0 {
		t.Errorf("answers: %v", answers)
	}
	forced, resumed, err := client.WaitDrained(ctx, "api", one)
	must(t, err)
	if forced != 0 || resumed || !s.backend(client, one).Drained {
		t.Errorf("drained: %d by force, resumed: %v", forced, resumed)
	}
	backend, err = client.Resume(ctx, "api", one)
	must(t, err)
	if backend.State != outrigger.StateReady {
		t.Errorf("resumed: %+v", backend)
	}

	_, err = client.Drain(ctx, "api", one, outrigger.ConfiguredTimeout, 200*time.Millisecond)
	must(t, err)
	_, resumed, err = client.WaitDrained(ctx, "api", one)
	must(t, err)
	if !resumed || s.backend(client, one).State != outrigger.StateReady {
		t.Errorf("after its TTL: resumed: %v, %+v", resumed, s.backend(client, one))
	}

	_, err = client.Drain(ctx, "api", "192.0.2.1:1", 0, time.Minute)
	refused(t, err, outrigger.ErrNotFound, "backend")
	_, err = client.Drain(ctx, "api", one, 25*time.Hour, time.Minute)
	refused(t, err, outrigger.ErrInvalid, "timeout")
	_, err = client.Drain(ctx, "api", one, 0, 0)
	refused(t, err, outrigger.ErrInvalid, "ttl")
	_, err = client.Resume(ctx, "api", "192.0.2.1:1")
	refused(t, err, outrigger.ErrNotFound, "backend")
	_, err = client.ResumeAll(ctx, "api", one)
	refused(t, err, outrigger.ErrDenied, "")
	_, _, err = client.WaitDrained(ctx, "api", "192.0.2.1:1")
	refused(t, err, outrigger.ErrNotFound, "backend")
}

func TestOutcomesEventsAndExplanations(t *testing.T) {
	s := start(t)
	client := s.client()
	ctx, bad := t.Context(), s.backends[2]
	_, latest, err := client.Events(ctx, "api", 0, 0)
	must(t, err)

	must(t, client.Report(ctx, "api", bad, outrigger.OutcomeSuccess, 10*time.Millisecond, 1))
	must(t, client.Report(ctx, "api", bad, outrigger.OutcomeReset, 0, 5))
	events, after, err := client.Events(ctx, "api", latest, 5*time.Second)
	must(t, err)
	if len(events) != 1 || events[0].Kind != "ejected" || events[0].Backend != bad || after < events[0].ID {
		t.Errorf("events: %+v, %d", events, after)
	}
	// An event may come before what it tells of can be seen.
	within(t, time.Second, "it is seen as ejected", func() bool {
		return s.backend(client, bad).State == outrigger.StateEjected
	})
	explanation, err := client.Explain(ctx, "api", "")
	must(t, err)
	if explanation.Picked == bad || explanation.Reason != outrigger.ReasonPolicy || explanation.Summary == "" {
		t.Errorf("explanation: %+v", explanation)
	}
	for _, backend := range explanation.Backends {
		ejected := backend.State == outrigger.StateEjected && backend.Share == 0
		if ejected != (backend.Backend == bad) || backend.Why == "" {
			t.Errorf("explanation: %+v", backend)
		}
	}
	if backend := s.backend(client, bad); backend.EWMA <= 0 {
		t.Errorf("without the latency that was reported: %+v", backend)
	}

	err = client.Report(ctx, "api", bad, "boredom", 0, 1)
	refused(t, err, outrigger.ErrInvalid, "outcome")
	err = client.Report(ctx, "api", bad, outrigger.OutcomeReset, 0, 1001)
	refused(t, err, outrigger.ErrInvalid, "count")
	err = client.Report(ctx, "api", "192.0.2.1:1", outrigger.OutcomeReset, 0, 1)
	refused(t, err, outrigger.ErrNotFound, "backend")
	_, _, err = client.Events(ctx, "apo", 0, 0)
	refused(t, err, outrigger.ErrNotFound, "cluster")
	_, _, err = client.Events(ctx, "api", after, -time.Second)
	refused(t, err, outrigger.ErrInvalid, "wait")
	_, err = client.Explain(ctx, "apo", "")
	refused(t, err, outrigger.ErrNotFound, "cluster")
}
