package outrigger

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// State is the first that holds of a backend.
type State string

const (
	// StateDraining: no new picks, work that is there finishes.
	StateDraining State = "draining"
	// StateUnhealthy: probes fail, or its source says that it must not be used.
	StateUnhealthy State = "unhealthy"
	// StateEjected: real traffic has failed there.
	StateEjected State = "ejected"
	// StatePending: not probed yet.
	StatePending State = "pending"
	StateReady   State = "ready"
)

// Reason is what leads a key to a backend.
type Reason string

const (
	ReasonPin Reason = "pin"
	// ReasonLearned: it was there before.
	ReasonLearned Reason = "learned"
	ReasonHash    Reason = "hash"
	// ReasonPolicy: nothing does; the policy decides at each pick.
	ReasonPolicy Reason = "policy"
)

// Outcome is what work at a backend showed about it.
type Outcome string

const (
	OutcomeSuccess       Outcome = "success"
	OutcomeConnectFailed Outcome = "connect_failed"
	OutcomeReset         Outcome = "reset"
	OutcomeTimeout       Outcome = "timeout"
	OutcomeHTTP5xx       Outcome = "http_5xx"
	OutcomeGRPCError     Outcome = "grpc_error"
	// OutcomeCancelled says nothing about the backend: it was the app that left.
	OutcomeCancelled Outcome = "cancelled"
)

// Backend is one as the sidecar sees it.
type Backend struct {
	// Name is its address: `10.0.0.1:80`, `[2001:db8::1]:80` or `unix:/run/app.sock`.
	Name  string
	State State
	// Reason is why it is not ready, or not for long.
	Reason string
	// Priority is its tier: lower numbers first, 0 to 65535.
	Priority uint32
	// ConfiguredWeight is discovery's; EffectiveWeight has orders and slow start in it.
	ConfiguredWeight, EffectiveWeight float64
	// Share of picks by weight, relative to those of the others; 0: it gets no new picks. Tiers, panic, drains, health
	// and weights are all in it.
	Share uint32
	// InFlight is what is under way at it from this sidecar. Not kept up to date in views.
	InFlight uint32
	// EWMA is the average time to the head of an answer; 0 before the first. Not kept up to date in views.
	EWMA time.Duration
	// Source is the kind of source that knows of it: static, file, dns, dns_srv, consul.
	Source string
	// DrainDeadline is when what is left of its work is ended by force; zero unless it drains.
	DrainDeadline time.Time
	// Drained: it drains and nothing of its work is left.
	Drained bool
	// Orders that act on it, but for pins.
	Orders []Order
	// Pins is how many keys are pinned to it.
	Pins uint32
}

// Order is an override that somebody has ordered.
type Order struct {
	// Owner is `admin` for operators, `fleet` for orders to all sidecars, else what the app calls itself.
	Owner string
	// Kind is `weight`, `factor`, `drain` or `pin`.
	Kind string
	// Value is the weight or the factor; 0 for others.
	Value float64
	// ExpiresAt is when it ends by itself; zero if it ends with a lease, or when it is taken back.
	ExpiresAt time.Time
	// Leased: it ends with a lease.
	Leased bool
}

// Cluster is a named set of interchangeable backends.
type Cluster struct {
	Name string
	// Policy is round_robin, least_request, peak_ewma or random.
	Policy string
	// Version counts up with every change.
	Version uint64
	// Panic: backends in doubt are used because too few others are left.
	Panic bool
	// StaleSince is since when the source has failed to confirm the backends; zero while it does.
	StaleSince time.Time
	Backends   []Backend
	// Pins is how many keys are pinned.
	Pins uint32
}

// Lead is where a key leads.
type Lead struct {
	// Backend is where the key would go now; empty: nobody may be used, or the policy decides.
	Backend string
	Reason  Reason
	// PinnedTo is the backend that it is pinned to, even if that may not be used now; empty: none.
	PinnedTo string
	// Pin is the pin as an order; nil without one.
	Pin *Order
}

// Event is something that has happened to a cluster or a backend.
type Event struct {
	// ID counts up by one with every event of the sidecar, from 1.
	ID      uint64
	At      time.Time
	Cluster string
	// Backend is empty if it concerns the cluster as a whole.
	Backend string
	// Kind is joined, removed, healthy, unhealthy, ejected, recovered, draining, drained, resumed, weight, pinned, …
	Kind  string
	Cause string
}

// Explanation is who would be picked now, and why.
type Explanation struct {
	// Picked is the backend that a pick would take now; empty: none.
	Picked string
	// Reason is what leads there; Summary says it in words.
	Reason   Reason
	Summary  string
	Backends []BackendExplanation
}

// BackendExplanation is why a backend would be taken or not.
type BackendExplanation struct {
	Backend string
	State   State
	// Share of picks by the policy, 0 to 1; Why says why it has that.
	Share float64
	Why   string
}

func backendOf(from *pb.Backend) Backend {
	return Backend{
		Name:             from.GetName(),
		State:            State(word(from.GetState().String(), "STATE_")),
		Reason:           from.GetReason(),
		Priority:         from.GetPriority(),
		ConfiguredWeight: from.GetConfiguredWeight(),
		EffectiveWeight:  from.GetEffectiveWeight(),
		Share:            from.GetShare(),
		InFlight:         from.GetInFlight(),
		EWMA:             from.GetEwma().AsDuration(),
		Source:           from.GetSource(),
		DrainDeadline:    timeOf(from.GetDrainDeadline()),
		Drained:          from.GetDrained(),
		Orders:           all(from.GetOrders(), orderOf),
		Pins:             from.GetPins(),
	}
}

func orderOf(from *pb.Order) Order {
	order := Order{Owner: from.GetOwner(), ExpiresAt: timeOf(from.GetExpiresAt()), Leased: from.GetLeased()}
	switch kind := from.GetKind().(type) {
	case *pb.Order_Weight:
		order.Kind, order.Value = "weight", float64(kind.Weight)
	case *pb.Order_Factor:
		order.Kind, order.Value = "factor", kind.Factor
	case *pb.Order_Drain:
		order.Kind = "drain"
	case *pb.Order_Pin:
		order.Kind = "pin"
	}
	return order
}

func clusterOf(from *pb.Cluster) Cluster {
	return Cluster{
		Name:       from.GetName(),
		Policy:     from.GetPolicy(),
		Version:    from.GetVersion(),
		Panic:      from.GetPanic(),
		StaleSince: timeOf(from.GetStaleSince()),
		Backends:   all(from.GetBackends(), backendOf),
		Pins:       from.GetPins(),
	}
}

func leadOf(from *pb.GetAffinityResponse) Lead {
	lead := Lead{Backend: from.GetBackend(), Reason: reasonOf(from.GetReason()), PinnedTo: from.GetPinnedTo()}
	if from.GetPin() != nil {
		pin := orderOf(from.GetPin())
		lead.Pin = &pin
	}
	return lead
}

func eventOf(from *pb.Event) Event {
	return Event{
		ID:      from.GetId(),
		At:      timeOf(from.GetAt()),
		Cluster: from.GetCluster(),
		Backend: from.GetBackend(),
		Kind:    from.GetKind(),
		Cause:   from.GetCause(),
	}
}

func explanationOf(from *pb.Explanation) BackendExplanation {
	return BackendExplanation{
		Backend: from.GetBackend(),
		State:   State(word(from.GetState().String(), "STATE_")),
		Share:   from.GetShare(),
		Why:     from.GetWhy(),
	}
}

func reasonOf(from pb.Reason) Reason {
	return Reason(word(from.String(), "REASON_"))
}

// word is the name of a value as people and the admin API write it.
func word(name, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(name, prefix))
}

func timeOf(from *timestamppb.Timestamp) time.Time {
	if from == nil {
		return time.Time{}
	}
	return from.AsTime()
}

func all[From, To any](from []From, convert func(From) To) []To {
	to := make([]To, len(from))
	for i := range from {
		to[i] = convert(from[i])
	}
	return to
}
