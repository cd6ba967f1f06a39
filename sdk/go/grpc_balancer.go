package outrigger

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/lazy"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

func init() {
	balancer.Register(balancerBuilder{})
}

type balancerBuilder struct{}

func (balancerBuilder) Name() string {
	return scheme
}

// Build implements [balancer.Builder]: each backend has a connection of its own, which gRPC's own balancers take care
// of.
func (balancerBuilder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	connect := balancer.Get(pickfirst.Name).Build
	idle := func(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
		return lazy.NewBalancer(conn, options, connect)
	}
	picking := &picking{ClientConn: conn, view: &directView{}}
	children := endpointsharding.NewBalancer(
		picking, options, idle, endpointsharding.Options{DisableAutoReconnect: true},
	)
	return &grpcBalancer{children, picking}
}

type grpcBalancer struct {
	// Balancer has the connections.
	balancer.Balancer
	picking *picking
}

// UpdateClientConnState implements [balancer.Balancer].
func (b *grpcBalancer) UpdateClientConnState(state balancer.ClientConnState) error {
	view, ok := state.ResolverState.Attributes.Value(directKey{}).(*directView)
	if !ok {
		return balancer.ErrBadResolverState
	}
	b.picking.mu.Lock()
	b.picking.view = view
	b.picking.mu.Unlock()
	return b.Balancer.UpdateClientConnState(state)
}

// picking makes pickers of the view and the states of connections.
type picking struct {
	// ClientConn is the channel that is told of them.
	balancer.ClientConn

	mu   sync.Mutex
	view *directView
	// state is what the channel was told last.
	state  balancer.State
	states map[string]connectivity.State
	// soon is set while the channel is about to be told again.
	soon atomic.Bool
}

// UpdateState is called whenever a connection's state or the view has changed.
func (p *picking) UpdateState(state balancer.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	picker := &picker{picking: p, view: p.view, children: map[string]endpointsharding.ChildState{}}
	states := map[string]connectivity.State{}
	for _, child := range endpointsharding.ChildStatesFromPicker(state.Picker) {
		name := child.Endpoint.Addresses[0].Addr
		share, is := p.view.shares[name], child.State.ConnectivityState
		switch {
		case is == connectivity.Idle && share > 0:
			child.ExitIdle()
		case is == connectivity.Ready:
			picker.ready.add(child, share)
		case is == connectivity.TransientFailure && p.states[name] != is:
			p.view.reports.add(name, OutcomeConnectFailed, 0)
		}
		states[name], picker.children[name] = is, child
	}
	p.states, p.state = states, balancer.State{ConnectivityState: state.ConnectivityState, Picker: picker}
	p.ClientConn.UpdateState(p.state)
}

// pickAgain has those pick again who wait for what a key leads to; some more may be able to if it waits a little.
func (p *picking) pickAgain() {
	if !p.soon.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(time.Millisecond, func() {
		p.soon.Store(false)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ClientConn.UpdateState(p.state)
	})
}

// picker picks for one view and one set of states.
type picker struct {
	picking  *picking
	view     *directView
	children map[string]endpointsharding.ChildState
	ready    draw[endpointsharding.ChildState]
}

// Pick implements [balancer.Picker]. It must not wait; who is to wait is asked again after the next UpdateState.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if key := affinityOf(info.Ctx); key != "" {
		backend, ok := p.view.keys.known(key, p.view.version)
		if !ok {
			go func() {
				<-p.view.keys.ask(key, p.view.version)
				p.picking.pickAgain()
			}()
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
		}
		if child, is := p.children[backend]; is && child.State.ConnectivityState != connectivity.TransientFailure {
			return p.pickOf(child, info)
		}
	}
	if child, ok := p.ready.one(); ok {
		return p.pickOf(child, info)
	}
	return p.pickNone(info)
}

// pickOf waits for a child that is not ready; one that is idle connects then.
func (p *picker) pickOf(child endpointsharding.ChildState, info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := child.State.Picker.Pick(info)
	if err == nil {
		result.Done = p.report(child.Endpoint.Addresses[0].Addr, result.Done)
	}
	return result, err
}

// pickNone waits for a backend with a share, or says why none can be connected to.
func (p *picker) pickNone(info balancer.PickInfo) (balancer.PickResult, error) {
	failed := error(ErrNoBackend)
	for name, share := range p.view.shares {
		child, is := p.children[name]
		switch {
		case share == 0 || !is:
		case child.State.ConnectivityState == connectivity.TransientFailure:
			_, failed = child.State.Picker.Pick(info)
		default:
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
		}
	}
	return balancer.PickResult{}, failed
}

// report has the outcome of a call reported, besides what else is to be done at its end.
func (p *picker) report(backend string, done func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	return func(info balancer.DoneInfo) {
		if done != nil {
			done(info)
		}
		// Without any byte the call was not made, but is picked for again.
		if info.Err != nil || info.BytesSent || info.BytesReceived {
			p.view.reports.add(backend, outcomeOf(info), 0)
		}
	}
}

// outcomeOf tells faults of a backend from answers that an app may give.
func outcomeOf(info balancer.DoneInfo) Outcome {
	switch status.Code(info.Err) {
	case codes.Canceled:
		return OutcomeCancelled
	case codes.DeadlineExceeded:
		return OutcomeTimeout
	case codes.Unavailable:
		if !info.BytesReceived {
			return OutcomeReset
		}
		return OutcomeGRPCError
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return OutcomeGRPCError
	default:
		return OutcomeSuccess
	}
}
