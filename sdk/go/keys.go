package outrigger

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// Where a key leads is asked again after so long, or when the view of the backends has changed.
	keyAge = time.Second
	// A sidecar that has not answered by then is not waited for.
	askTimeout = 500 * time.Millisecond
	// It is not asked about any key for so long after it has failed to answer.
	silence = time.Second
	// One key more pushes out another.
	maxKeys = 65536
)

// keys are where keys lead, as the sidecar has said.
type keys struct {
	client  *Client
	cluster string
	asked   singleflight.Group

	mu    sync.Mutex
	leads map[string]keyLead
	// silentUntil is when a sidecar that has not answered is asked again.
	silentUntil time.Time
}

type keyLead struct {
	// backend is empty if the key leads nowhere.
	backend string
	// version is that of the view at which it was asked for.
	version uint64
	until   time.Time
}

func newKeys(client *Client, cluster string) *keys {
	return &keys{client: client, cluster: cluster, leads: map[string]keyLead{}}
}

// known is where the key leads, unless the sidecar is to be asked.
func (k *keys) known(key string, version uint64) (backend string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	lead, now := k.leads[key], time.Now()
	if lead.version == version && now.Before(lead.until) {
		return lead.backend, true
	}
	// What it has said last is better than nothing.
	return lead.backend, now.Before(k.silentUntil)
}

// ask asks the sidecar where the key leads, once for all who want to know; then it is known for a while, whatever
// became of the question.
func (k *keys) ask(key string, version uint64) <-chan singleflight.Result {
	return k.asked.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(k.client.lifetime, askTimeout)
		defer cancel()
		lead, err := k.client.Affinity(ctx, k.cluster, key)
		k.learn(key, version, lead, err)
		return nil, nil
	})
}

func (k *keys) learn(key string, version uint64, lead Lead, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	backend := lead.Backend
	if errors.Is(err, ErrUnavailable) {
		backend = k.leads[key].backend
		k.silentUntil = now.Add(silence)
	}
	if _, is := k.leads[key]; !is && len(k.leads) >= maxKeys {
		for other := range k.leads {
			delete(k.leads, other)
			break
		}
	}
	k.leads[key] = keyLead{backend, version, now.Add(keyAge)}
}
