package outrigger

import (
	"context"
	"fmt"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

const (
	scheme = "outrigger"
	// The name of the balancer is the scheme's.
	balancerConfig = `{"loadBalancingConfig": [{"` + scheme + `": {}}]}`
)

// Resolver lets gRPC connect to the backends of a cluster itself, and pick them as the sidecar does:
//
//	grpc.NewClient("outrigger:///api", grpc.WithResolvers(client.Resolver()), …)
//
// Affinity keys are those of [WithAffinity], outcomes are reported, and when the sidecar dies the last view stays.
// A backend that has no share is connected to when a key leads there.
func (c *Client) Resolver() resolver.Builder {
	return resolverBuilder{c}
}

type resolverBuilder struct {
	client *Client
}

func (b resolverBuilder) Scheme() string {
	return scheme
}

// Build implements [resolver.Builder].
func (b resolverBuilder) Build(
	target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions,
) (resolver.Resolver, error) {
	cluster := target.Endpoint()
	if cluster == "" {
		return nil, fmt.Errorf("outrigger: target %q: want outrigger:///CLUSTER", target.URL.String())
	}
	ctx, end := context.WithCancel(b.client.lifetime)
	direct := newDirect(b.client, cluster)
	config := conn.ParseServiceConfig(balancerConfig)
	go direct.reports.run(ctx)
	go func() {
		viewed := false
		b.client.watchForever(ctx, cluster, func(view *View) {
			viewed = true
			// What the balancer says to it is shown by its picks.
			_ = conn.UpdateState(resolverState(view, direct, config))
		}, func(err error) {
			if !viewed && ctx.Err() == nil {
				conn.ReportError(err)
			}
		})
	}()
	return watchResolver{end}, nil
}

type watchResolver struct {
	end context.CancelFunc
}

// ResolveNow has nothing to do: the watch is never late.
func (watchResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r watchResolver) Close() {
	r.end()
}

// directKey is where the balancer finds its directView.
type directKey struct{}

// directView is what the resolver tells the balancer.
type directView struct {
	direct
	version uint64
	shares  map[string]uint32
}

func resolverState(view *View, direct direct, config *serviceconfig.ParseResult) resolver.State {
	told := &directView{direct: direct, version: view.Version, shares: map[string]uint32{}}
	state := resolver.State{ServiceConfig: config, Attributes: attributes.New(directKey{}, told)}
	for _, backend := range view.Backends {
		if mayBeUsed(backend) {
			told.shares[backend.Name] = backend.Share
			address := resolver.Address{Addr: backend.Name}
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
		}
	}
	return state
}
