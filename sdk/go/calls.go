package outrigger

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// Clusters are this one and its backends as they are now, or all if cluster is empty.
func (c *Client) Clusters(ctx context.Context, cluster string) ([]Cluster, error) {
	reply, err := c.stub.ListClusters(ctx, &pb.ListClustersRequest{Cluster: cluster})
	return all(reply.GetClusters(), clusterOf), err
}

// Affinity says where a key would go now, and why.
func (c *Client) Affinity(ctx context.Context, cluster, key string) (Lead, error) {
	reply, err := c.stub.GetAffinity(ctx, &pb.GetAffinityRequest{Cluster: cluster, Key: key})
	if err != nil {
		return Lead{}, err
	}
	return leadOf(reply), nil
}

// WaitDrained waits until a backend that drains has no work left, for as long as the context allows. It says how much
// was ended by force, and whether the backend was resumed instead, so that something of its work may be left.
func (c *Client) WaitDrained(ctx context.Context, cluster, backend string) (forced uint32, resumed bool, err error) {
	reply, err := c.stub.WaitDrained(ctx, &pb.WaitDrainedRequest{Cluster: cluster, Backend: backend})
	return reply.GetForced(), reply.GetResumed(), err
}

// Report says what the app itself has seen of a backend, once or, with a count up to 1000, several times. It counts
// like what the sidecar sees. The latency is how long the backend took to answer; 0: not known.
func (c *Client) Report(
	ctx context.Context, cluster, backend string, outcome Outcome, latency time.Duration, count uint32,
) error {
	request := &pb.ReportOutcomeRequest{
		Cluster: cluster,
		Backend: backend,
		Outcome: pb.Outcome(pb.Outcome_value["OUTCOME_"+strings.ToUpper(string(outcome))]),
		Count:   count,
	}
	if latency > 0 {
		request.Latency = durationpb.New(latency)
	}
	_, err := c.stub.ReportOutcome(ctx, request)
	return err
}

// Events are those of a cluster, or of all if that is empty, after the one with this id, the oldest first; without
// one the call waits up to so long, 60 s at most. The second result is what to ask after next time.
func (c *Client) Events(
	ctx context.Context, cluster string, after uint64, wait time.Duration,
) ([]Event, uint64, error) {
	ctx, cancel := c.bounded(ctx, max(wait, 0))
	defer cancel()
	request := &pb.ListEventsRequest{Cluster: cluster, After: after, Wait: durationpb.New(wait)}
	reply, err := c.stub.ListEvents(ctx, request)
	return all(reply.GetEvents(), eventOf), reply.GetLatest(), err
}

// Explain says who would be picked now for this key, or for none if it is empty, and why every other backend would
// not.
func (c *Client) Explain(ctx context.Context, cluster, key string) (Explanation, error) {
	reply, err := c.stub.Explain(ctx, &pb.ExplainRequest{Cluster: cluster, Key: key})
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{
		Picked:   reply.GetPicked(),
		Reason:   reasonOf(reply.GetReason()),
		Summary:  reply.GetSummary(),
		Backends: all(reply.GetBackends(), explanationOf),
	}, nil
}
