package outrigger

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// fake is a sidecar for faults that the real one will not show. It carries orders out by writing them down.
type fake struct {
	pb.UnimplementedControlServiceServer
	path   string
	server *grpc.Server

	mu sync.Mutex
	// lives counts restarts: leases of another life are not known.
	lives  int
	leases []string
	// owners are those of leases, as they were opened.
	owners []string
	// requests are those of unary calls, and tokens what came with them.
	requests []proto.Message
	tokens   []string
	// refuse judges a request before it is carried out.
	refuse func(proto.Message) error
	// leads are where keys lead; others lead to `pinned-KEY`.
	leads map[string]string
	// hasty has streams of leases end as soon as they have begun.
	hasty bool
	// watch serves WatchCluster.
	watch func(*pb.WatchClusterRequest, watchServer) error
}

type watchServer = grpc.ServerStreamingServer[pb.WatchClusterResponse]

func newFake(t *testing.T) *fake {
	// A socket's path must be short.
	dir, err := os.MkdirTemp("", "outrigger")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fake{path: filepath.Join(dir, "control.sock")}
	f.start(t)
	t.Cleanup(func() { f.server.Stop() })
	return f
}

// start also begins another life, after the end of the one before.
func (f *fake) start(t *testing.T) {
	listener, err := net.Listen("unix", f.path)
	must(t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lives++
	f.leases, f.requests = nil, nil
	f.server = grpc.NewServer(grpc.UnaryInterceptor(f.note))
	pb.RegisterControlServiceServer(f.server, f)
	go func(server *grpc.Server) { _ = server.Serve(listener) }(f.server)
}

func (f *fake) note(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	message := request.(proto.Message)
	f.mu.Lock()
	f.requests = append(f.requests, message)
	sent, _ := metadata.FromIncomingContext(ctx)
	f.tokens = append(f.tokens, fmt.Sprint(sent["authorization"]))
	refuse := f.refuse
	f.mu.Unlock()
	if refuse != nil {
		if err := refuse(message); err != nil {
			return nil, err
		}
	}
	return handle(ctx, request)
}

func (f *fake) setWatch(watch func(*pb.WatchClusterRequest, watchServer) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = watch
}

// asked are the requests of unary calls up to now.
func (f *fake) asked() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func (f *fake) setRefuse(refuse func(proto.Message) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

func (f *fake) opened() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.leases)
}

func (f *fake) checkLease(id string) error {
	if id != "" && !slices.Contains(f.opened(), id) {
		return refusal(codes.NotFound, &errdetails.ResourceInfo{ResourceType: "lease", ResourceName: id})
	}
	return nil
}

func (f *fake) OpenLease(stream grpc.BidiStreamingServer[pb.OpenLeaseRequest, pb.OpenLeaseResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	id := fmt.Sprintf("lease-%d-%d", f.lives, len(f.owners))
	f.leases, f.owners = append(f.leases, id), append(f.owners, first.GetOwner())
	hasty := f.hasty
	f.mu.Unlock()
	defer f.endLease(id)
	if err := stream.Send(&pb.OpenLeaseResponse{LeaseId: id}); err != nil {
		return err
	}
	if !hasty {
		_, _ = stream.Recv()
	}
	return nil
}

func (f *fake) endLease(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leases = slices.DeleteFunc(f.leases, func(other string) bool { return other == id })
}

func (f *fake) SetWeight(_ context.Context, request *pb.SetWeightRequest) (*pb.SetWeightResponse, error) {
	backend := &pb.Backend{Name: request.GetBackend(), EffectiveWeight: float64(request.GetWeight())}
	return &pb.SetWeightResponse{Backend: backend}, f.checkLease(request.GetLeaseId())
}

func (f *fake) ClearWeight(_ context.Context, request *pb.ClearWeightRequest) (*pb.ClearWeightResponse, error) {
	backend := &pb.Backend{Name: request.GetBackend()}
	return &pb.ClearWeightResponse{Backend: backend}, f.checkLease(request.GetLeaseId())
}

func (f *fake) SetAffinity(_ context.Context, request *pb.SetAffinityRequest) (*pb.SetAffinityResponse, error) {
	backend := request.GetBackend()
	if backend == "" {
		backend = "where-it-lives:80"
	}
	return &pb.SetAffinityResponse{Backend: backend}, f.checkLease(request.GetLeaseId())
}

func (f *fake) GetAffinity(_ context.Context, request *pb.GetAffinityRequest) (*pb.GetAffinityResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	backend, is := f.leads[request.GetKey()]
	if !is {
		backend = "pinned-" + request.GetKey()
	}
	return &pb.GetAffinityResponse{Backend: backend, Reason: pb.Reason_REASON_PIN}, nil
}

func (f *fake) leadsTo(key, backend string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leads = map[string]string{key: backend}
}

func (f *fake) ReportOutcome(context.Context, *pb.ReportOutcomeRequest) (*pb.ReportOutcomeResponse, error) {
	return &pb.ReportOutcomeResponse{}, nil
}

func (f *fake) ListClusters(context.Context, *pb.ListClustersRequest) (*pb.ListClustersResponse, error) {
	return &pb.ListClustersResponse{Clusters: []*pb.Cluster{{Name: "api", Policy: "random"}}}, nil
}

func (f *fake) WatchCluster(request *pb.WatchClusterRequest, stream watchServer) error {
	f.mu.Lock()
	watch := f.watch
	f.mu.Unlock()
	return watch(request, stream)
}

// refusal is an error with details.
func refusal(code codes.Code, details ...protoadapt.MessageV1) error {
	refused, err := status.New(code, "refused").WithDetails(details...)
	if err != nil {
		return err
	}
	return refused.Err()
}

func (f *fake) client(t *testing.T, options ...Option) *Client {
	client, err := Dial(append([]Option{WithAddress("unix:" + f.path)}, options...)...)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what others do in their own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}
