package outrigger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The kinds of errors, for [errors.Is].
var (
	// ErrUnavailable: the sidecar is absent, shuts down, or has not answered in time.
	ErrUnavailable = errors.New("sidecar unavailable")
	// ErrNotFound: there is no such cluster or backend; see [Error.Resource].
	ErrNotFound = errors.New("not found")
	// ErrInvalid: a value is not accepted; see [Error.Violations].
	ErrInvalid = errors.New("invalid argument")
	// ErrExhausted: a table is full, or changes come too fast for the deadline; see [Error.RetryAfter].
	ErrExhausted = errors.New("exhausted")
	// ErrDenied: who calls is not known, or may not do this.
	ErrDenied = errors.New("denied")
	// ErrCanceled: the caller's context was cancelled, or the client closed.
	ErrCanceled = errors.New("cancelled")
	// ErrOther is anything else, such as a sidecar too old to know the call.
	ErrOther = errors.New("unexpected answer")
)

// Error is why a call failed. It has changed nothing then, but for [ErrUnavailable] and [ErrCanceled], where the
// sidecar may have done what it could not say.
type Error struct {
	// Kind is one of the errors above.
	Kind error
	// Op is the call: `SetWeight`.
	Op string
	// Message is the sidecar's, for people.
	Message string
	// Violations say which values are not accepted, and what is.
	Violations []Violation
	// Resource is what was not found.
	Resource Resource
	// RetryAfter is when to try again; 0: not known.
	RetryAfter time.Duration

	cause error
}

// Violation is a value that is not accepted.
type Violation struct {
	// Field is that of the request, as the .proto calls it: `weight`.
	Field string
	// Description has the value and what is accepted.
	Description string
}

// Resource is what was asked for.
type Resource struct {
	// Type is `cluster`, `backend` or `lease`.
	Type string
	Name string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("outrigger: %s: %v: %s", e.Op, e.Kind, e.Message)
	for _, violation := range e.Violations {
		// The message of one violation usually is its description.
		if !strings.Contains(text, violation.Description) {
			text += fmt.Sprintf("; %s: %s", violation.Field, violation.Description)
		}
	}
	return text
}

// Unwrap gives the kind and the gRPC status, or the context's error if that has ended the call.
func (e *Error) Unwrap() []error {
	return []error{e.Kind, e.cause}
}

// newError gives the error of a call its type, if there is one.
func newError(method string, err error) error {
	if err == nil {
		return nil
	}
	from := status.Convert(err)
	e := &Error{Op: path.Base(method), Message: from.Message(), cause: err}
	switch from.Code() {
	case codes.Unavailable:
		e.Kind = ErrUnavailable
	case codes.DeadlineExceeded:
		e.Kind, e.cause = ErrUnavailable, context.DeadlineExceeded
	case codes.Canceled:
		e.Kind, e.cause = ErrCanceled, context.Canceled
	case codes.NotFound:
		e.Kind = ErrNotFound
	case codes.InvalidArgument:
		e.Kind = ErrInvalid
	case codes.ResourceExhausted:
		e.Kind = ErrExhausted
	case codes.Unauthenticated, codes.PermissionDenied:
		e.Kind = ErrDenied
	default:
		e.Kind = ErrOther
	}
	for _, detail := range from.Details() {
		e.add(detail)
	}
	return e
}

func (e *Error) add(detail any) {
	switch detail := detail.(type) {
	case *errdetails.BadRequest:
		for _, violation := range detail.GetFieldViolations() {
			e.Violations = append(e.Violations, Violation{violation.GetField(), violation.GetDescription()})
		}
	case *errdetails.ResourceInfo:
		e.Resource = Resource{detail.GetResourceType(), detail.GetResourceName()}
	case *errdetails.RetryInfo:
		e.RetryAfter = detail.GetRetryDelay().AsDuration()
	}
}

// isLease says whether a call failed because its lease has ended.
func isLease(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == ErrNotFound && e.Resource.Type == "lease"
}
