package outrigger

import (
	"context"
	"errors"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// Orders for backends that are gone may be many: they are not given again all the time.
const lastLeasePause = 2 * time.Second

// Lease gives orders that hold for as long as it is open: until it is closed, or the process ends in whatever way.
//
// When the sidecar restarts, the lease is opened again and gives again all orders that were given through it and not
// taken back through it; until a backend is known again its orders wait. Its methods may be called from several
// goroutines, and act one after the other.
type Lease struct {
	client *Client
	// lifetime ends with Close.
	lifetime context.Context
	end      context.CancelFunc

	// turn is held by whoever gives orders or opens the lease again: what is remembered is what was ordered.
	turn chan struct{}
	id   string
	// stream keeps the lease open; alive ends with it, and drop ends it.
	stream pb.ControlService_OpenLeaseClient
	alive  context.Context
	drop   context.CancelFunc
	// orders are those to be given again, and missing those that were not given since the lease was opened.
	orders, missing map[slot]order

	// lost has a value when a stream has ended.
	lost chan struct{}
	done chan struct{}
}

// slot is what there is one order for: a kind of order, and the backend or key.
type slot struct {
	kind, cluster, name string
}

// order gives an order under the lease of this id.
type order func(ctx context.Context, id string) error

// OpenLease opens a lease; the owner of its orders is the client's.
func (c *Client) OpenLease(ctx context.Context) (*Lease, error) {
	ctx, cancel := c.bounded(ctx, 0)
	defer cancel()
	l := &Lease{
		client:  c,
		turn:    make(chan struct{}, 1),
		orders:  map[slot]order{},
		missing: map[slot]order{},
		lost:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	l.lifetime, l.end = context.WithCancel(c.lifetime)
	l.alive, l.drop = context.WithCancel(l.lifetime)
	if err := l.open(ctx); err != nil {
		l.end()
		return nil, err
	}
	go l.keep()
	return l, nil
}

// Close ends the lease, and waits for the sidecar, if it is there, to know. Its orders are gone 0.2 s later at most.
func (l *Lease) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.client.timeout)
	defer cancel()
	if l.take(ctx) == nil {
		if l.stream.CloseSend() == nil {
			select {
			case <-l.alive.Done():
			case <-ctx.Done():
			}
		}
		l.end()
		l.release()
	}
	l.end()
	<-l.done
	return nil
}

// keep opens the lease again whenever its stream has ended, and gives what is missing.
func (l *Lease) keep() {
	defer close(l.done)
	var pause pauses
	var again <-chan time.Time
	for {
		select {
		case <-l.lifetime.Done():
			return
		case <-l.lost:
			// Streams may end as soon as they begin.
			pause.wait(l.lifetime)
		case <-again:
		}
		whole, better := l.restore()
		if better {
			pause = 0
		}
		if again = nil; !whole {
			again = time.After(pause.next(lastLeasePause))
		}
	}
}

// restore says whether the lease is open and nothing is missing, and whether less is than before. It does not take
// long, since others may wait for their turn.
func (l *Lease) restore() (whole, better bool) {
	if l.take(l.lifetime) != nil {
		return false, false
	}
	defer l.release()
	ctx, cancel := l.client.bounded(l.lifetime, 0)
	defer cancel()
	if l.alive.Err() != nil {
		if l.open(ctx) != nil {
			return false, false
		}
		return len(l.missing) == 0, true
	}
	before := len(l.missing)
	l.giveMissing(ctx)
	return len(l.missing) == 0, len(l.missing) < before
}

// open ends the stream that there may be, and needs the turn.
func (l *Lease) open(ctx context.Context) error {
	l.drop()
	l.alive, l.drop = context.WithCancel(l.lifetime)
	// The context is for the opening, the stream outlives it.
	stop := context.AfterFunc(ctx, l.drop)
	stream, id, err := l.client.openLease(l.alive)
	stop()
	if err != nil {
		l.drop()
		if ctx.Err() != nil {
			err = newError(pb.ControlService_OpenLease_FullMethodName, status.FromContextError(ctx.Err()).Err())
		}
		return err
	}
	l.id, l.stream = id, stream
	go l.listen(stream, l.drop)
	maps.Copy(l.missing, l.orders)
	l.giveMissing(ctx)
	return nil
}

// listen waits for the end of a stream: nothing else is said there.
func (l *Lease) listen(stream pb.ControlService_OpenLeaseClient, drop context.CancelFunc) {
	_, _ = stream.Recv()
	drop()
	select {
	case l.lost <- struct{}{}:
	default:
	}
}

func (c *Client) openLease(ctx context.Context) (pb.ControlService_OpenLeaseClient, string, error) {
	stream, err := c.stub.OpenLease(ctx)
	if err != nil {
		return nil, "", err
	}
	// Why this fails is what the answer says.
	_ = stream.Send(&pb.OpenLeaseRequest{Owner: c.owner})
	reply, err := stream.Recv()
	if err != nil {
		return nil, "", err
	}
	return stream, reply.GetLeaseId(), nil
}

// giveMissing needs the turn. It passes over orders that are refused, such as those for backends that are not known
// yet, and leaves off when the sidecar wants to be left alone.
func (l *Lease) giveMissing(ctx context.Context) {
	for slot, order := range l.missing {
		err := order(ctx, l.id)
		if err == nil {
			delete(l.missing, slot)
		}
		if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExhausted) || ctx.Err() != nil {
			return
		}
	}
}

// take waits for the turn; the lease is not closed then.
func (l *Lease) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if l.lifetime.Err() != nil {
		l.release()
		return status.Error(codes.Canceled, "the lease is closed")
	}
	return nil
}

func (l *Lease) release() {
	<-l.turn
}

// call makes a call in its turn, on a lease that is open. If it succeeds, then is called before anybody else's turn.
func call[Reply any](
	ctx context.Context, l *Lease, method string, give func(ctx context.Context, id string) (Reply, error),
	then func(Reply),
) (Reply, error) {
	var none Reply
	ctx, cancel := l.client.bounded(ctx, 0)
	defer cancel()
	if err := l.take(ctx); err != nil {
		return none, newError(method, err)
	}
	defer l.release()
	if l.alive.Err() != nil {
		if err := l.open(ctx); err != nil {
			return none, err
		}
	}
	reply, err := give(ctx, l.id)
	if isLease(err) {
		// The end of the stream is noticed later.
		if err := l.open(ctx); err != nil {
			return none, err
		}
		reply, err = give(ctx, l.id)
	}
	if err == nil {
		then(reply)
	}
	return reply, err
}
