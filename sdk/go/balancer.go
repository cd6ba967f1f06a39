package outrigger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoBackend: no backend of the cluster may be used.
var ErrNoBackend = errors.New("outrigger: no backend may be used")

// Balancer picks backends of a cluster as the sidecar does, for an app that connects to them itself. It follows the
// sidecar's view; when the sidecar dies the last one stays. Its methods may be called from several goroutines.
type Balancer struct {
	direct
	end  context.CancelFunc
	done sync.WaitGroup

	picks atomic.Pointer[picks]
	// begun is closed when there is a view, or the first attempt to get one has failed; failure is how the last one did.
	begun   chan struct{}
	failure atomic.Pointer[error]
}

// direct is what direct mode has besides backends: where keys lead, and what is to be reported.
type direct struct {
	keys    *keys
	reports *reports
}

func newDirect(client *Client, cluster string) direct {
	return direct{newKeys(client, cluster), newReports(client, cluster)}
}

// picks are what picks are made from at one time.
type picks struct {
	version uint64
	shares  draw[string]
	// names are of those to whom a key may lead.
	names map[string]struct{}
}

// NewBalancer begins to watch the cluster; Close ends that.
func (c *Client) NewBalancer(cluster string) *Balancer {
	ctx, end := context.WithCancel(c.lifetime)
	b := &Balancer{direct: newDirect(c, cluster), end: end, begun: make(chan struct{})}
	begin := sync.OnceFunc(func() { close(b.begun) })
	b.done.Go(func() {
		c.watchForever(ctx, cluster, func(view *View) {
			b.picks.Store(picksOf(view))
			begin()
		}, func(err error) {
			b.failure.Store(&err)
			begin()
		})
		begin()
	})
	b.done.Go(func() { b.reports.run(ctx) })
	return b
}

// Close ends the watch; what was reported is told to the sidecar before.
func (b *Balancer) Close() {
	b.end()
	b.done.Wait()
}

// Pick gives the name of a backend, which is an address: `10.0.0.1:80`, `[2001:db8::1]:80` or `unix:/run/app.sock`.
//
// A key, 1 to 256 bytes, goes where the sidecar says that it leads; it is asked once, and again after a second or when
// the backends have changed. Otherwise, as with an empty key, backends are drawn by their shares. The error is
// [ErrNoBackend], or as long as there is no view, why; Pick waits for the first one until the sidecar has failed to
// give it, or the context ends.
func (b *Balancer) Pick(ctx context.Context, key string) (string, error) {
	picks, err := b.current(ctx)
	if err != nil {
		return "", err
	}
	if key != "" {
		backend, err := b.lead(ctx, key, picks.version)
		if err != nil {
			return "", err
		}
		if _, is := picks.names[backend]; is {
			return backend, nil
		}
	}
	backend, ok := picks.shares.one()
	if !ok {
		return "", ErrNoBackend
	}
	return backend, nil
}

// Report says what became of work at a backend, and how long it took to answer; 0: not known. It returns at once; the
// sidecar is told soon, or never if it is away.
func (b *Balancer) Report(backend string, outcome Outcome, latency time.Duration) {
	b.reports.add(backend, outcome, latency)
}

func (b *Balancer) current(ctx context.Context) (*picks, error) {
	select {
	case <-b.begun:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if picks := b.picks.Load(); picks != nil {
		return picks, nil
	}
	if failure := b.failure.Load(); failure != nil {
		return nil, *failure
	}
	return nil, ErrNoBackend
}

func (b *Balancer) lead(ctx context.Context, key string, version uint64) (string, error) {
	if backend, ok := b.keys.known(key, version); ok {
		return backend, nil
	}
	select {
	case <-b.keys.ask(key, version):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	backend, _ := b.keys.known(key, version)
	return backend, nil
}

func picksOf(view *View) *picks {
	picks := &picks{version: view.Version, names: map[string]struct{}{}}
	for _, backend := range view.Backends {
		picks.shares.add(backend.Name, backend.Share)
		if mayBeUsed(backend) {
			picks.names[backend.Name] = struct{}{}
		}
	}
	return picks
}

// mayBeUsed says whether picks, or keys alone, may lead to a backend: to one of weight 0 or of a higher tier they do,
// and to one that drains until it has drained.
func mayBeUsed(backend Backend) bool {
	return backend.Share > 0 || backend.State == StateReady || backend.State == StateDraining && !backend.Drained
}
