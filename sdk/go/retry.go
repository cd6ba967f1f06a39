package outrigger

import (
	"context"
	"errors"
	"time"
)

// retries is the service config of the connection. All calls may be made twice but ReportOutcome, which counts. Streams
// are tried again by this only until they are open; later on whoever holds them opens them again.
const retries = `{"methodConfig": [
	{"name": [{"service": "outrigger.v1.ControlService"}], "retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "0.2s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]}},
	{"name": [{"service": "outrigger.v1.ControlService", "method": "ReportOutcome"}]}]}`

// waited waits if a call that came too fast may be made again within its deadline. It has changed nothing.
func waited(ctx context.Context, err error) bool {
	e, is := errors.AsType[*Error](err)
	if !is || e.Kind != ErrExhausted || e.RetryAfter <= 0 {
		return false
	}
	pause := max(e.RetryAfter, time.Millisecond)
	if deadline, has := ctx.Deadline(); has && time.Until(deadline) < pause {
		return false
	}
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// The sidecar is near: to look often whether it is back costs little.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// pauses between attempts double, up to a limit; zero is the state before the first.
type pauses time.Duration

func (p *pauses) next(limit time.Duration) time.Duration {
	pause := min(max(time.Duration(*p), firstPause), limit)
	*p = pauses(2 * pause)
	return pause
}

// wait pauses, unless the context ends meanwhile.
func (p *pauses) wait(ctx context.Context) {
	select {
	case <-time.After(p.next(lastPause)):
	case <-ctx.Done():
	}
}
