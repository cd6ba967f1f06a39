// Package outrigger speaks to the Outrigger sidecar beside the app: it weighs and drains backends, pins keys to them,
// and says where they are, for as long as the app lives or a given time.
//
// What the app orders ends by itself. An order of a [Client] has a TTL; one of a [Lease] ends with the lease, and that
// ends with the process, however it ends.
//
// A sidecar that is absent does no harm: calls fail within a fraction of a second with [ErrUnavailable], watches wait
// for it, and a [Balancer] goes on with what it knows.
package outrigger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// Client is a connection to the control API of a sidecar. Its methods may be called from several goroutines.
//
// A call whose context has no deadline ends after 2 s, or what [WithTimeout] says. Errors are of type [*Error]. Where
// a call takes a backend it may also be the name of a target or a node that exactly one backend has.
type Client struct {
	conn    *grpc.ClientConn
	stub    pb.ControlServiceClient
	timeout time.Duration
	owner   string
	// lifetime ends with Close, and with it what runs in the background.
	lifetime context.Context
	end      context.CancelFunc
}

// Dial prepares a connection; the first call makes it, and later ones make it anew after it was lost.
//
// The sidecar is where [WithAddress] says, else where the environment variable OUTRIGGER_CONTROL does, else at
// 127.0.0.1:9911. The error is one of the options.
func Dial(options ...Option) (*Client, error) {
	o := defaults()
	for _, option := range options {
		option(&o)
	}
	target, err := o.target()
	if err != nil {
		return nil, fmt.Errorf("outrigger: %w", err)
	}
	client := &Client{timeout: o.timeout, owner: o.owner}
	client.lifetime, client.end = context.WithCancel(context.Background())
	client.conn, err = grpc.NewClient(target, client.dialOptions(o)...)
	if err != nil {
		return nil, fmt.Errorf("outrigger: address %q: %w", o.address, err)
	}
	client.stub = pb.NewControlServiceClient(client.conn)
	return client, nil
}

// Close ends the connection, and with it calls, watches, leases and balancers.
func (c *Client) Close() error {
	c.end()
	return c.conn.Close()
}

func (c *Client) dialOptions(o config) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if o.tls != nil {
		transport = credentials.NewTLS(o.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		// A proxy for the Internet is not for the machine's own addresses.
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithDisableServiceConfig(),
		grpc.WithUnaryInterceptor(c.unary),
		grpc.WithStreamInterceptor(stream),
		// It is near: whether it is back may be tried often.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: lastPause},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A sidecar that hangs is noticed by leases and watches.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
	if o.token != nil {
		options = append(options, grpc.WithPerRPCCredentials(o.token))
	}
	return options
}

// unary gives a call its deadline and its error a type, and makes it again when the sidecar says after how long it may.
func (c *Client) unary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	// How long a drain takes only the caller can know.
	if method != pb.ControlService_WaitDrained_FullMethodName {
		var cancel context.CancelFunc
		ctx, cancel = c.bounded(ctx, 0)
		defer cancel()
	}
	for {
		err := newError(method, invoke(ctx, method, request, reply, conn, options...))
		if !waited(ctx, err) {
			return err
		}
	}
}

// bounded gives a context its deadline, later by extra, unless it has one.
func (c *Client) bounded(ctx context.Context, extra time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout+extra)
}

func stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	opened, err := open(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, newError(method, err)
	}
	return typedStream{opened, method}, nil
}

// typedStream gives the errors of a stream a type.
type typedStream struct {
	grpc.ClientStream
	method string
}

func (s typedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the sidecar has ended the stream")
	}
	return newError(s.method, err)
}
