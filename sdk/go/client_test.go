package outrigger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestAnAbsentSidecarFailsCallsAtOnce(t *testing.T) {
	client, err := Dial(WithAddress("unix:" + filepath.Join(t.TempDir(), "nobody.sock")))
	must(t, err)
	defer func() { _ = client.Close() }()
	begin := time.Now()
	_, err = client.Clusters(t.Context(), "")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Clusters: %v", err)
	}
	_, err = client.OpenLease(t.Context())
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("OpenLease: %v", err)
	}
	if passed := time.Since(begin); passed > defaultTimeout {
		t.Errorf("it took %v", passed)
	}
}

func TestASidecarThatHangsFailsCallsAtTheirDeadline(t *testing.T) {
	f := newFake(t)
	released := make(chan struct{})
	f.setRefuse(func(proto.Message) error { <-released; return nil })
	t.Cleanup(func() { close(released) })
	client := f.client(t, WithTimeout(50*time.Millisecond))
	_, err := client.Clusters(t.Context(), "")
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client's deadline: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = client.WaitDrained(ctx, "api", "a:1")
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call's own deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = client.Clusters(ctx, "")
	if !errors.Is(err, ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSafeCallsAreMadeAgain(t *testing.T) {
	f := newFake(t)
	failures := 0
	f.setRefuse(func(proto.Message) error {
		if failures++; failures%3 != 0 {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	})
	client := f.client(t)
	_, err := client.SetWeight(t.Context(), "api", "a:1", 1, time.Second)
	must(t, err)
	if asked := len(f.asked()); asked != 3 {
		t.Errorf("SetWeight was asked %d times", asked)
	}
	err = client.Report(t.Context(), "api", "a:1", OutcomeReset, 0, 1)
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Report: %v", err)
	}
	if asked := len(f.asked()); asked != 4 {
		t.Errorf("Report was asked %d times", asked-3)
	}
}

func TestCallsThatComeTooFastWait(t *testing.T) {
	f := newFake(t)
	client := f.client(t)
	soon := refusal(codes.ResourceExhausted, &errdetails.RetryInfo{RetryDelay: durationpb.New(5 * time.Millisecond)})
	refusals := 0
	f.setRefuse(func(proto.Message) error {
		if refusals++; refusals%3 != 0 {
			return soon
		}
		return nil
	})
	begin := time.Now()
	_, err := client.SetWeight(t.Context(), "api", "a:1", 1, time.Second)
	must(t, err)
	if asked := len(f.asked()); asked != 3 || time.Since(begin) < 10*time.Millisecond {
		t.Errorf("asked %d times in %v", asked, time.Since(begin))
	}
}

func TestErrorsHaveTheirDetails(t *testing.T) {
	f := newFake(t)
	client := f.client(t)
	call := func(code codes.Code, refused error) *Error {
		t.Helper()
		f.setRefuse(func(proto.Message) error { return refused })
		_, err := client.Clusters(t.Context(), "")
		e, ok := errors.AsType[*Error](err)
		if !ok || status.Code(err) != code || e.Op != "ListClusters" {
			t.Fatalf("%#v", err)
		}
		return e
	}

	weight := &errdetails.BadRequest_FieldViolation{Field: "weight", Description: "70000: want 0..=65535"}
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{weight}}
	e := call(codes.InvalidArgument, refusal(codes.InvalidArgument, bad))
	if e.Kind != ErrInvalid || !slices.Equal(e.Violations, []Violation{{"weight", "70000: want 0..=65535"}}) {
		t.Errorf("invalid: %#v", e)
	}
	if text := e.Error(); !strings.Contains(text, "weight: 70000: want 0..=65535") {
		t.Errorf("invalid: %s", text)
	}
	lost := &errdetails.ResourceInfo{ResourceType: "cluster", ResourceName: "apo"}
	e = call(codes.NotFound, refusal(codes.NotFound, lost))
	if e.Kind != ErrNotFound || e.Resource != (Resource{"cluster", "apo"}) {
		t.Errorf("not found: %#v", e)
	}
	soon := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)}
	e = call(codes.ResourceExhausted, refusal(codes.ResourceExhausted, soon))
	if e.Kind != ErrExhausted || e.RetryAfter != time.Minute {
		t.Errorf("exhausted: %#v", e)
	}
	for code, kind := range map[codes.Code]error{
		codes.Unauthenticated:  ErrDenied,
		codes.PermissionDenied: ErrDenied,
		codes.Unimplemented:    ErrOther,
		codes.Internal:         ErrOther,
	} {
		if e := call(code, status.Error(code, "refused")); e.Kind != kind {
			t.Errorf("%v: %#v", code, e)
		}
	}
}

func TestATokenFileIsReadAgain(t *testing.T) {
	f := newFake(t)
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("OUTRIGGER_CONTROL", "unix:"+f.path)
	t.Setenv("OUTRIGGER_CONTROL_TOKEN_FILE", file)
	client, err := Dial()
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	_, err = client.Clusters(t.Context(), "")
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), file) {
		t.Errorf("without the file: %v", err)
	}
	for _, token := range []string{"first", "second"} {
		must(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
		_, err = client.Clusters(t.Context(), "")
		must(t, err)
	}
	if got := strings.Join(f.tokens, " "); got != "[Bearer first] [Bearer second]" {
		t.Errorf("tokens: %s", got)
	}
}

func TestAddressesAreJudged(t *testing.T) {
	for _, address := range []string{"unix:", "localhost", ":9911", "http://localhost:9911", "127.0.0.1:"} {
		client, err := Dial(WithAddress(address))
		if err == nil {
			_ = client.Close()
			t.Errorf("%q was taken", address)
		} else if !strings.Contains(err.Error(), address) {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, address := range []string{"10.0.0.1:9911", "sidecar:9911"} {
		if _, err := Dial(WithAddress(address), WithToken("secret")); err == nil {
			t.Errorf("a token would be sent to %s without TLS", address)
		}
	}
}
