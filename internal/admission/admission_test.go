package admission_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/admission"
)

func from(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip)} }

// crowd is a Queue that records the names of the handshakes that were dropped.
type crowd struct {
	*admission.Queue
	over    chan struct{}
	mu      sync.Mutex
	dropped []string
}

func newCrowd(max int) *crowd { return &crowd{Queue: admission.New(max), over: make(chan struct{})} }

func (c *crowd) enter(name, ip string) *admission.Slot {
	return c.Acquire(c.over, from(ip), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dropped = append(c.dropped, name)
	})
}

// A slot is dropped only while this end waits for its peer. A waiter gets a slot as
// soon as one is released.
func TestNoSlotIsDroppedWhileThisEndWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(2)
		a, b := c.enter("a", "192.0.2.1"), c.enter("b", "192.0.2.1")
		begun, entered := time.Now(), make(chan time.Duration)
		go func() {
			c.enter("c", "192.0.2.2")
			entered <- time.Since(begun)
		}()
		time.Sleep(time.Hour) // this end is slow, not the peer
		b.Release()
		require.Equal(t, time.Hour, <-entered)
		require.True(t, a.Keep())
		require.Empty(t, c.dropped)
		require.Equal(t, 2, c.Len())
	})
}

// After this end has waited for a peer for Patience in total, the peer loses its slot
// as soon as another connection needs one, and not before. Sending a byte now and then does not
// help.
func TestSilentPeerLosesItsSlot(t *testing.T) {
	for name, each := range map[string]time.Duration{"silent": admission.Patience, "a byte now and then": admission.Patience / 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(1)
				a := c.enter("a", "192.0.2.1")
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for !a.Dropped() {
						a.StartWait()
						time.Sleep(each)
						a.EndWait()
					}
				}()
				begun := time.Now()
				b := c.enter("b", "192.0.2.2")
				require.Equal(t, admission.Patience, time.Since(begun))
				synctest.Wait() // for the call that drops a
				require.Equal(t, []string{"a"}, c.dropped)
				require.True(t, a.Dropped())
				require.False(t, a.Keep())
				a.Release()
				require.Equal(t, 1, c.Len())
				b.Release()
				require.Zero(t, c.Len())
				<-gone
			})
		})
	}
}

// Among the peers that have used up Patience, the address that has the most slots
// loses its oldest slot. A completed handshake does not lose its slot.
func TestAddressWithMostSlotsLosesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(6)
		for i, ip := range []string{"192.0.2.1", "192.0.2.9", "2001:db8::1", "192.0.2.9", "2001:db8::2", "2001:db8::3"} {
			p := c.enter(fmt.Sprint(i), ip)
			p.StartWait()
			if i == 2 {
				require.True(t, p.Keep())
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(admission.Patience)
		for range 3 {
			c.enter("new", "198.51.100.1")
		}
		// That address has three slots now. Two other addresses, with fewer slots, come next.
		c.enter("new", "198.51.100.2")
		c.enter("new", "198.51.100.3")
		// Handshake 2 is complete, but its slot counts. So the /64 begins with three slots, and then has as many as 192.0.2.9.
		synctest.Wait() // for the calls that drop them
		require.Equal(t, []string{"4", "1", "5", "0", "3"}, c.dropped)
		go c.enter("never", "198.51.100.4")
		synctest.Wait()
		close(c.over)
		synctest.Wait()
		require.Nil(t, c.enter("after the end", "198.51.100.5"))
	})
}

// A client does not queue behind the connections of an address that has many
// slots, and its own slot is not given to them.
func TestQueueIsFairByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = "192.0.2.1"
		c := newCrowd(5)
		defer close(c.over)
		slow := c.enter("slow", "192.0.2.7")
		slow.StartWait()
		for range 4 {
			c.enter("silent", many).StartWait()
		}
		order := make(chan string, 200)
		enter := func(name, ip string) {
			go func() {
				if p := c.enter(name, ip); p != nil {
					order <- name
					p.StartWait()
				}
			}()
			synctest.Wait()
		}
		for range 100 {
			enter("silent", many)
		}
		enter("one", "192.0.2.2")
		enter("another", "2001:db8::2")
		time.Sleep(admission.Patience + time.Millisecond)
		synctest.Wait()
		var served []string
		for len(order) > 0 {
			served = append(served, <-order)
		}
		// Two slots go to other addresses, and two pass between connections of the same address.
		require.ElementsMatch(t, []string{"one", "another", "silent", "silent"}, served)
		require.False(t, slow.Dropped(), "a client lost its slot to an address that had as many slots")
		require.Equal(t, []string{"silent", "silent", "silent", "silent"}, c.dropped)
	})
}

// A connection that gives up waiting is not given a slot.
func TestCanceledWaiterLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(1)
		first := c.enter("first", "192.0.2.1")
		over := make(chan struct{})
		gone := make(chan *admission.Slot)
		go func() { gone <- c.Acquire(over, from("192.0.2.2"), nil) }()
		synctest.Wait()
		close(over)
		require.Nil(t, <-gone)
		first.Release()
		require.Zero(t, c.Len())
		require.NotNil(t, c.enter("next", "192.0.2.3"))
	})
}

func TestClientsAreCountedByNetwork(t *testing.T) {
	a := admission.ClientAddr(&net.TCPAddr{IP: net.ParseIP("2001:db8::1")})
	require.Equal(t, a, admission.ClientAddr(&net.TCPAddr{IP: net.ParseIP("2001:db8::ffff:1")}))
	require.NotEqual(t, a, admission.ClientAddr(&net.TCPAddr{IP: net.ParseIP("2001:db8:0:1::1")}))
	require.Equal(t, admission.ClientAddr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}), admission.ClientAddr(&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1")}))
	require.False(t, strings.Contains(a.String(), "%"))
}
