package outrigger

import (
	"context"
	"time"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// SetWeight is as [Client.SetWeight], for as long as the lease is open.
func (l *Lease) SetWeight(ctx context.Context, cluster, backend string, weight uint32) (Backend, error) {
	return l.weigh(ctx, weightOrder(cluster, backend, weight))
}

// ScaleWeight is as [Client.ScaleWeight], for as long as the lease is open.
func (l *Lease) ScaleWeight(ctx context.Context, cluster, backend string, factor float64) (Backend, error) {
	return l.weigh(ctx, factorOrder(cluster, backend, factor))
}

func (l *Lease) weigh(ctx context.Context, request *pb.SetWeightRequest) (Backend, error) {
	give := func(ctx context.Context, id string) (*pb.SetWeightResponse, error) {
		request.Lifetime = &pb.SetWeightRequest_LeaseId{LeaseId: id}
		return l.client.stub.SetWeight(ctx, request)
	}
	return carried(call(ctx, l, pb.ControlService_SetWeight_FullMethodName, give, func(reply *pb.SetWeightResponse) {
		remember(l, slot{"weight", request.GetCluster(), reply.GetBackend().GetName()}, give)
	}))
}

// ClearWeight takes back what the lease has ordered about a backend's weight.
func (l *Lease) ClearWeight(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ClearWeightRequest{Cluster: cluster, Backend: backend}
	give := func(ctx context.Context, id string) (*pb.ClearWeightResponse, error) {
		request.LeaseId = id
		return l.client.stub.ClearWeight(ctx, request)
	}
	return carried(call(ctx, l, pb.ControlService_ClearWeight_FullMethodName, give, func(reply *pb.ClearWeightResponse) {
		l.forget(slot{"weight", cluster, reply.GetBackend().GetName()})
	}))
}

// SetAffinity is as [Client.SetAffinity], for as long as the lease is open.
func (l *Lease) SetAffinity(ctx context.Context, cluster, key, backend string) (string, error) {
	request := &pb.SetAffinityRequest{Cluster: cluster, Key: key, Backend: backend}
	give := func(ctx context.Context, id string) (*pb.SetAffinityResponse, error) {
		request.Lifetime = &pb.SetAffinityRequest_LeaseId{LeaseId: id}
		return l.client.stub.SetAffinity(ctx, request)
	}
	reply, err := call(ctx, l, pb.ControlService_SetAffinity_FullMethodName, give, func(reply *pb.SetAffinityResponse) {
		// A key that was to stay where it lives is to stay there after a restart, too.
		request.Backend = reply.GetBackend()
		remember(l, slot{"pin", cluster, key}, give)
	})
	return reply.GetBackend(), err
}

// ClearAffinity takes the pin of a key back, whosever it is, and says whether there was one.
func (l *Lease) ClearAffinity(ctx context.Context, cluster, key string) (bool, error) {
	request := &pb.ClearAffinityRequest{Cluster: cluster, Key: key}
	give := func(ctx context.Context, _ string) (*pb.ClearAffinityResponse, error) {
		return l.client.stub.ClearAffinity(ctx, request)
	}
	reply, err := call(ctx, l, pb.ControlService_ClearAffinity_FullMethodName, give, func(*pb.ClearAffinityResponse) {
		l.forget(slot{"pin", cluster, key})
	})
	return reply.GetCleared(), err
}

// Drain is as [Client.Drain], for as long as the lease is open. Given again, its timeout begins anew.
func (l *Lease) Drain(ctx context.Context, cluster, backend string, timeout time.Duration) (Backend, error) {
	request := drainOrder(cluster, backend, timeout)
	give := func(ctx context.Context, id string) (*pb.DrainResponse, error) {
		request.Lifetime = &pb.DrainRequest_LeaseId{LeaseId: id}
		return l.client.stub.Drain(ctx, request)
	}
	return carried(call(ctx, l, pb.ControlService_Drain_FullMethodName, give, func(reply *pb.DrainResponse) {
		remember(l, slot{"drain", cluster, reply.GetBackend().GetName()}, give)
	}))
}

// Resume takes back the lease's order to drain.
func (l *Lease) Resume(ctx context.Context, cluster, backend string) (Backend, error) {
	request := &pb.ResumeRequest{Cluster: cluster, Backend: backend}
	give := func(ctx context.Context, id string) (*pb.ResumeResponse, error) {
		request.LeaseId = id
		return l.client.stub.Resume(ctx, request)
	}
	return carried(call(ctx, l, pb.ControlService_Resume_FullMethodName, give, func(reply *pb.ResumeResponse) {
		l.forget(slot{"drain", cluster, reply.GetBackend().GetName()})
	}))
}

func remember[Reply any](l *Lease, at slot, give func(context.Context, string) (Reply, error)) {
	l.orders[at] = func(ctx context.Context, id string) error {
		_, err := give(ctx, id)
		return err
	}
	delete(l.missing, at)
}

func (l *Lease) forget(at slot) {
	delete(l.orders, at)
	delete(l.missing, at)
}
