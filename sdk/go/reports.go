package outrigger

import (
	"context"
	"sync"
	"time"
)

const (
	// Outcomes are told to the sidecar so often, added up.
	reportEvery = 100 * time.Millisecond
	// The sidecar takes so many in one report.
	maxCount = 1000
	// Backends times outcomes; what is beyond is not reported.
	maxReports = 65536
)

// reports are outcomes that the sidecar is still to be told.
type reports struct {
	client  *Client
	cluster string

	mu   sync.Mutex
	sums map[reported]sum
}

type reported struct {
	backend string
	outcome Outcome
}

type sum struct {
	count uint32
	// latency is that of so many, together.
	latency time.Duration
	timed   uint32
}

func newReports(client *Client, cluster string) *reports {
	return &reports{client: client, cluster: cluster, sums: map[reported]sum{}}
}

// add takes a latency of 0 for one that is not known.
func (r *reports) add(backend string, outcome Outcome, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := reported{backend, outcome}
	total, is := r.sums[of]
	if !is && len(r.sums) >= maxReports {
		return
	}
	total.count++
	if latency > 0 {
		total.latency += latency
		total.timed++
	}
	r.sums[of] = total
}

// run tells the sidecar until the context ends, and then once more.
func (r *reports) run(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.tell()
		case <-ctx.Done():
			r.tell()
			return
		}
	}
}

// tell forgets what it cannot tell: old outcomes would be taken for new ones.
func (r *reports) tell() {
	r.mu.Lock()
	sums := r.sums
	r.sums = map[reported]sum{}
	r.mu.Unlock()
	ctx, cancel := r.client.bounded(r.client.lifetime, 0)
	defer cancel()
	for of, total := range sums {
		var latency time.Duration
		if total.timed > 0 {
			latency = total.latency / time.Duration(total.timed)
		}
		for total.count > 0 && ctx.Err() == nil {
			count := min(total.count, maxCount)
			total.count -= count
			if r.client.Report(ctx, r.cluster, of.backend, of.outcome, latency, count) != nil {
				break
			}
		}
	}
}
