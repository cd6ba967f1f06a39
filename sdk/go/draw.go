package outrigger

import (
	"math/rand/v2"
	"sort"
)

// draw is a lottery in proportion to shares.
type draw[T any] struct {
	items []T
	// sums[i] is the sum of the shares up to that of items[i].
	sums []uint64
}

// add leaves out what has no share.
func (d *draw[T]) add(item T, share uint32) {
	if share > 0 {
		d.items, d.sums = append(d.items, item), append(d.sums, d.total()+uint64(share))
	}
}

func (d *draw[T]) total() uint64 {
	if len(d.sums) == 0 {
		return 0
	}
	return d.sums[len(d.sums)-1]
}

// one is false if nobody has a share.
func (d *draw[T]) one() (item T, ok bool) {
	if len(d.items) == 0 {
		return item, false
	}
	point := rand.Uint64N(d.total())
	return d.items[sort.Search(len(d.sums), func(i int) bool { return point < d.sums[i] })], true
}
