package outrigger

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// ConfiguredTimeout is the timeout of a drain that the cluster's configuration gives.
const ConfiguredTimeout time.Duration = -1

// SetWeight gives a backend this weight, 0 to 65535, instead of discovery's, until the TTL, 1 ms to 24 h, is over. New
// picks follow it when the call returns. An owner has one order of weight for a backend, be it a weight or a factor:
// another replaces it, and of several owners' weights the latest counts.
func (c *Client) SetWeight(
	ctx context.Context, cluster, backend string, weight uint32, ttl time.Duration,
) (Backend, error) {
	request := weightOrder(cluster, backend, weight)
	request.Owner, request.Lifetime = c.owner, &pb.SetWeightRequest_Ttl{Ttl: durationpb.New(ttl)}
	return carried(c.stub.SetWeight(ctx, request))
}

// ScaleWeight is as SetWeight, but multiplies the weight that the backend would have, by 0 to 1000 in steps of 1/256.
// The factors of several owners multiply.
func (c *Client) ScaleWeight(
	ctx context.Context, cluster, backend string, factor float64, ttl time.Duration,
) (Backend, error) {
	request := factorOrder(cluster, backend, factor)
	request.Owner, request.Lifetime = c.owner, &pb.SetWeightRequest_Ttl{Ttl: durationpb.New(ttl)}
	return carried(c.stub.SetWeight(ctx, request))
}

// ClearWeight takes back the owner's order of weight that has a TTL.
func (c *Client) ClearWeight(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ClearWeightRequest{Cluster: cluster, Backend: backend, Owner: c.owner}
	return carried(c.stub.ClearWeight(ctx, request))
}

// ClearWeights takes back everybody's orders of weight; that takes the role admin.
func (c *Client) ClearWeights(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ClearWeightRequest{Cluster: cluster, Backend: backend, All: true}
	return carried(c.stub.ClearWeight(ctx, request))
}

// SetAffinity pins a key of 1 to 256 bytes to a backend, or, if that is empty, to the one where the key lives now or
// would be sent to now, until the TTL, 1 ms to 24 h, is over. The result is the backend's name. A key has one pin,
// whosever; the last one counts.
func (c *Client) SetAffinity(ctx context.Context, cluster, key, backend string, ttl time.Duration) (string, error) {
	request := &pb.SetAffinityRequest{
		Cluster:  cluster,
		Key:      key,
		Backend:  backend,
		Lifetime: &pb.SetAffinityRequest_Ttl{Ttl: durationpb.New(ttl)},
		Owner:    c.owner,
	}
	reply, err := c.stub.SetAffinity(ctx, request)
	return reply.GetBackend(), err
}

// ClearAffinity takes the pin of a key back, whosever it is, and says whether there was one.
func (c *Client) ClearAffinity(ctx context.Context, cluster, key string) (bool, error) {
	reply, err := c.stub.ClearAffinity(ctx, &pb.ClearAffinityRequest{Cluster: cluster, Key: key})
	return reply.GetCleared(), err
}

// Drain lets a backend finish what it has and gives it nothing new. After the timeout, 0 to 24 h or
// [ConfiguredTimeout], what is left is ended by force; after the TTL, 1 ms to 24 h, the backend resumes.
func (c *Client) Drain(ctx context.Context, cluster, backend string, timeout, ttl time.Duration) (Backend, error) {
	request := drainOrder(cluster, backend, timeout)
	request.Owner, request.Lifetime = c.owner, &pb.DrainRequest_Ttl{Ttl: durationpb.New(ttl)}
	return carried(c.stub.Drain(ctx, request))
}

// Resume takes back the owner's order to drain that has a TTL. A backend drains for as long as anybody wants it to.
func (c *Client) Resume(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ResumeRequest{Cluster: cluster, Backend: backend, Owner: c.owner}
	return carried(c.stub.Resume(ctx, request))
}

// ResumeAll takes back everybody's orders to drain; that takes the role admin.
func (c *Client) ResumeAll(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ResumeRequest{Cluster: cluster, Backend: backend, All: true}
	return carried(c.stub.Resume(ctx, request))
}

// What follows are orders that do not say yet how long they hold.

func weightOrder(cluster, backend string, weight uint32) *pb.SetWeightRequest {
	change := &pb.SetWeightRequest_Weight{Weight: weight}
	return &pb.SetWeightRequest{Cluster: cluster, Backend: backend, Change: change}
}

func factorOrder(cluster, backend string, factor float64) *pb.SetWeightRequest {
	change := &pb.SetWeightRequest_Factor{Factor: factor}
	return &pb.SetWeightRequest{Cluster: cluster, Backend: backend, Change: change}
}

func drainOrder(cluster, backend string, timeout time.Duration) *pb.DrainRequest {
	request := &pb.DrainRequest{Cluster: cluster, Backend: backend}
	if timeout != ConfiguredTimeout {
		request.Timeout = durationpb.New(timeout)
	}
	return request
}

// carried is the backend as it is after an order.
func carried(reply interface{ GetBackend() *pb.Backend }, err error) (Backend, error) {
	if err != nil {
		return Backend{}, err
	}
	return backendOf(reply.GetBackend()), nil
}
