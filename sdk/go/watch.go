package outrigger

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// View is all that the sidecar knows of the backends of a cluster at one moment. It does not change.
type View struct {
	Cluster string
	// Instance tells this life of the sidecar from others; Version counts up with every change within it.
	Instance string
	Version  uint64
	// Panic: backends in doubt are used because too few others are left.
	Panic bool
	// Backends are in the order of their names.
	Backends []Backend
}

// Watch gives the view of a cluster, and another one after every change. While the sidecar is away it waits, and goes
// on where it was. It ends with an error: when the context does, or with [ErrNotFound], [ErrInvalid] or [ErrDenied].
func (c *Client) Watch(ctx context.Context, cluster string) iter.Seq2[*View, error] {
	return func(yield func(*View, error) bool) {
		w := newWatch(c, cluster)
		var pause pauses
		for {
			err := w.follow(ctx, func(view *View) bool {
				pause = 0
				return yield(view, nil)
			})
			if err == nil {
				return
			}
			if ctx.Err() != nil || !passes(err) {
				yield(nil, err)
				return
			}
			pause.wait(ctx)
		}
	}
}

// passes says whether a watch may get better by waiting.
func passes(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExhausted) || errors.Is(err, ErrOther)
}

// watchForever is for those who keep the last view whatever happens: it ends with its context alone.
func (c *Client) watchForever(ctx context.Context, cluster string, each func(*View), failed func(error)) {
	w := newWatch(c, cluster)
	var pause pauses
	for ctx.Err() == nil {
		err := w.follow(ctx, func(view *View) bool {
			pause = 0
			each(view)
			return true
		})
		failed(err)
		pause.wait(ctx)
	}
}

// watch is where a watch of a cluster is, over several streams.
type watch struct {
	client  *Client
	cluster string
	// The last whole set.
	instance string
	version  uint64
	backends map[string]Backend
}

func newWatch(client *Client, cluster string) *watch {
	return &watch{client: client, cluster: cluster, backends: map[string]Backend{}}
}

// follow gives views until the stream ends, with its error, or nobody wants any more, without one.
func (w *watch) follow(ctx context.Context, yield func(*View) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &pb.WatchClusterRequest{Cluster: w.cluster, Instance: w.instance, Version: w.version}
	stream, err := w.client.stub.WatchCluster(ctx, request)
	if err != nil {
		return err
	}
	// The next set, once a change has begun to come. One that does not come as a whole is forgotten.
	var next map[string]Backend
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		switch {
		case message.GetFull():
			next = map[string]Backend{}
		case next == nil:
			next = maps.Clone(w.backends)
		}
		apply(next, message)
		if message.GetMore() {
			continue
		}
		w.instance, w.version, w.backends, next = message.GetInstance(), message.GetVersion(), next, nil
		if !yield(w.view(message.GetPanic())) {
			return nil
		}
	}
}

func apply(backends map[string]Backend, message *pb.WatchClusterResponse) {
	for _, name := range message.GetRemoved() {
		delete(backends, name)
	}
	for _, changed := range message.GetChanged() {
		backends[changed.GetName()] = backendOf(changed)
	}
}

func (w *watch) view(panic bool) *View {
	byName := func(a, b Backend) int { return cmp.Compare(a.Name, b.Name) }
	return &View{
		Cluster:  w.cluster,
		Instance: w.instance,
		Version:  w.version,
		Panic:    panic,
		Backends: slices.SortedFunc(maps.Values(w.backends), byName),
	}
}
