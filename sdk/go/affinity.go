package outrigger

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// AffinityHeader is the field by which a request says its affinity key, in HTTP and as metadata of gRPC. The sidecar
// takes it off before the backend sees the request.
const AffinityHeader = "x-outrigger-affinity"

type affinityKey struct{}

// WithAffinity gives what is done with the context an affinity key, 1 to 256 bytes that a header may have; an empty one
// takes it away.
func WithAffinity(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, affinityKey{}, key)
}

func affinityOf(ctx context.Context) string {
	key, _ := ctx.Value(affinityKey{}).(string)
	return key
}

// AffinityTransport sets [AffinityHeader] from the context of each request that does not have it.
type AffinityTransport struct {
	// Base makes the request; nil: [http.DefaultTransport].
	Base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t AffinityTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if key := affinityOf(request.Context()); key != "" && request.Header.Get(AffinityHeader) == "" {
		// A transport must not change the request that it is given.
		request = request.Clone(request.Context())
		request.Header.Set(AffinityHeader, key)
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(request)
}

// UnaryAffinity is an interceptor that sets [AffinityHeader] from the context of each call.
func UnaryAffinity(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	return invoke(withMetadata(ctx), method, request, reply, conn, options...)
}

// StreamAffinity is as [UnaryAffinity], for streams.
func StreamAffinity(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return open(withMetadata(ctx), desc, conn, method, options...)
}

func withMetadata(ctx context.Context) context.Context {
	key := affinityOf(ctx)
	if key == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, AffinityHeader, key)
}
