package outrigger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/outrigger-lb/outrigger/sdk/go/internal/outriggerv1"
)

// serves answers each watch with the messages and the error of the next of these, and then says nothing more.
func (f *fake) serves(answers ...answer) chan *pb.WatchClusterRequest {
	asked := make(chan *pb.WatchClusterRequest, len(answers)+1)
	f.setWatch(func(request *pb.WatchClusterRequest, stream watchServer) error {
		f.mu.Lock()
		var next answer
		if len(answers) > 0 {
			next, answers = answers[0], answers[1:]
		}
		f.mu.Unlock()
		asked <- request
		for _, message := range next.messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		if next.err == nil {
			<-stream.Context().Done()
		}
		return next.err
	})
	return asked
}

// pushes has one watch say what is sent to the channel.
func (f *fake) pushes() chan<- *pb.WatchClusterResponse {
	next := make(chan *pb.WatchClusterResponse, 1)
	f.setWatch(func(_ *pb.WatchClusterRequest, stream watchServer) error {
		for {
			select {
			case message := <-next:
				if err := stream.Send(message); err != nil {
					return err
				}
			case <-stream.Context().Done():
				return nil
			}
		}
	})
	return next
}

type answer struct {
	messages []*pb.WatchClusterResponse
	err      error
}

// set is a message: `full more a=1 b=2 -c`, with shares.
func set(version uint64, words string) *pb.WatchClusterResponse {
	message := &pb.WatchClusterResponse{Instance: "i1", Version: version}
	for word := range strings.FieldsSeq(words) {
		name, share, isBackend := strings.Cut(word, "=")
		switch {
		case word == "full":
			message.Full = true
		case word == "more":
			message.More = true
		case isBackend:
			backend := &pb.Backend{Name: name, State: pb.State_STATE_READY}
			_, _ = fmt.Sscan(share, &backend.Share)
			message.Changed = append(message.Changed, backend)
		default:
			message.Removed = append(message.Removed, strings.TrimPrefix(word, "-"))
		}
	}
	return message
}

// text is a view in the words of set.
func text(view *View) string {
	words := []string{fmt.Sprint(view.Version)}
	for _, backend := range view.Backends {
		words = append(words, fmt.Sprintf("%s=%d", backend.Name, backend.Share))
	}
	return strings.Join(words, " ")
}

func TestAWatchGivesFullViewsAndGoesOnWhereItWas(t *testing.T) {
	f := newFake(t)
	away := status.Error(codes.Unavailable, "the stream dies")
	sets := func(sets ...*pb.WatchClusterResponse) []*pb.WatchClusterResponse { return sets }
	asked := f.serves(
		answer{sets(set(1, "full b=2 more"), set(1, "a=1"), set(2, "a=5 -b c=3"), set(3, "full more z=1")), away},
		answer{sets(set(3, "-c"), set(4, "a=6 more")), away},
		answer{nil, status.Error(codes.ResourceExhausted, "too many watches")},
		answer{sets(set(1, "full x=1")), refusal(codes.NotFound, &errdetails.ResourceInfo{ResourceType: "cluster"})},
	)
	var got []string
	var end error
	for view, err := range f.client(t).Watch(t.Context(), "api") {
		if err != nil {
			end = err
			break
		}
		got = append(got, text(view))
	}
	if want := "[1 a=1 b=2|2 a=5 c=3|3 a=5|1 x=1]"; fmt.Sprintf("[%s]", strings.Join(got, "|")) != want {
		t.Errorf("views: %q", got)
	}
	if !errors.Is(end, ErrNotFound) {
		t.Errorf("the end: %v", end)
	}
	for i, want := range []string{" 0", "i1 2", "i1 3", "i1 3"} {
		request := <-asked
		if from := fmt.Sprint(request.GetInstance(), " ", request.GetVersion()); from != want {
			t.Errorf("watch %d goes on from %q, want %q", i, from, want)
		}
	}
}

func TestAWatchWaitsForASidecarAndEndsWithItsContext(t *testing.T) {
	f := newFake(t)
	f.serves(answer{[]*pb.WatchClusterResponse{set(1, "full a=1")}, nil})
	f.server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for view, err := range f.client(t).Watch(ctx, "api") {
		if view != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a sidecar: %v, %v", view, err)
		}
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	f.start(t)
	var errs []error
	for view, err := range f.client(t).Watch(ctx, "api") {
		if view != nil {
			cancel()
		}
		errs = append(errs, err)
	}
	if len(errs) != 2 || !errors.Is(errs[1], ErrCanceled) {
		t.Errorf("cancelled: %v", errs)
	}
}
