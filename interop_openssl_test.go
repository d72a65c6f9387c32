package sslfilter_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// step is what a peer with the keys sends next.
type step struct {
	name string
	wire func(k *keyed) []byte
}

// sealed returns a step with one record for each body.
func sealed(name string, kind byte, bodies ...[]byte) step {
	return step{name, func(k *keyed) []byte { return k.send(kind, bodies...) }}
}

// steps returns records that honest and hostile peers may send after the handshake.
func steps() (list []step) {
	for _, level := range []byte{warning, fatal, 0, 3} {
		for _, description := range []byte{closeNotify, userCanceled, noRenegotiation, 10, 80, 41, 112, 255} {
			list = append(list, sealed(fmt.Sprintf("alert %d %d", level, description), typeAlert, alert(level, description)))
		}
	}
	data := sealed("data", typeData, []byte("data"))
	return append(list, data, data, data, data, // so that it is chosen more often
		sealed("no data", typeData, nil), sealed("full record", typeData, make([]byte, 16384)),
		sealed("too much data", typeData, make([]byte, 16385)),
		sealed("close_notify, as Java says it", typeAlert, alert(warning, userCanceled), alert(warning, closeNotify)),
		sealed("user_canceled", typeAlert, alert(warning, userCanceled)),
		sealed("two alerts in a record", typeAlert, slices.Concat(alert(warning, userCanceled), alert(warning, closeNotify))),
		sealed("half an alert", typeAlert, []byte{warning}), sealed("no alert", typeAlert, nil),
		sealed("change_cipher_spec", typeCCS, []byte{1}),
		sealed("HelloRequest", typeHandshake, message(0)), sealed("two HelloRequests", typeHandshake, slices.Concat(message(0), message(0))),
		sealed("a part of a HelloRequest", typeHandshake, message(0)[:2]), sealed("HelloRequest with a body", typeHandshake, message(0, 1)),
		step{"ClientHello", func(k *keyed) []byte { return k.send(typeHandshake, k.clientHello()) }},
		step{"two ClientHellos", func(k *keyed) []byte { return k.send(typeHandshake, slices.Repeat(k.clientHello(), 2)) }},
		sealed("KeyUpdate", typeHandshake, keyUpdating(0)), sealed("KeyUpdate that asks", typeHandshake, keyUpdating(1)),
		sealed("KeyUpdate of another kind", typeHandshake, keyUpdating(2)), sealed("two KeyUpdates", typeHandshake, slices.Concat(keyUpdating(0), keyUpdating(0))),
		sealed("a part of a KeyUpdate", typeHandshake, keyUpdating(0)[:4]),
		sealed("NewSessionTicket", typeHandshake, message(4, 1, 2, 3)), sealed("Finished", typeHandshake, message(20, make([]byte, 12)...)),
		sealed("unknown message", typeHandshake, message(99)), sealed("no message", typeHandshake, nil),
		sealed("heartbeat", typeHeartbeat, []byte{1, 0, 1, 0}), sealed("unknown type", 99, []byte{1}),
		step{"record that is damaged", func(k *keyed) []byte {
			wire := k.out.seal(typeData, []byte("data"))
			wire[len(wire)-1] ^= 1
			return wire
		}},
		step{"alert in plain text", func(*keyed) []byte { return tlsRecord(typeAlert, fatal, 40) }},
		step{"change_cipher_spec in plain text", func(*keyed) []byte { return tlsRecord(typeCCS, 1) }},
		step{"HTTP", func(*keyed) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }},
		step{"record that is too long", func(*keyed) []byte { return []byte{typeData, 3, 3, 0x7f, 0xff, 0} }},
	)
}

// clientHello returns the first ClientHello of the connection, to be sent again to a server.
func (k *keyed) clientHello() []byte { return k.hello[5:] }

// behaviour is the reaction of one end to its input.
type behaviour struct {
	plain   string
	said    []string // decrypted records
	ended   bool     // the peer's close_notify came
	reasons []string // of OpenSSL's queue
}

// behave passes steps to end in pieces of cut, until the connection ends.
func (k *keyed) behave(t *testing.T, end tlsEnd, play []step, cut testkit.Cut) (b behaviour) {
	var plain []byte
	defer func() { b.plain = string(plain) }()
	listen := func() {
		for _, record := range testkit.ByRecord(end.Outgoing(nil)) {
			if len(record) == 0 {
				continue
			}
			kind, body, err := k.in.open(record)
			require.NoError(t, err)
			if kind == typeHandshake && body[0] == 1 { // random bytes are in it
				body = body[:1]
			}
			b.said = append(b.said, fmt.Sprintf("%d: %x", kind, body))
			if kind == typeHandshake && body[0] == 24 {
				k.in.rekey()
			}
		}
	}
	for _, s := range play {
		var err error
		for _, piece := range cut(s.wire(k)) {
			if plain, err = end.Receive(plain, piece); err != nil {
				break
			}
		}
		listen()
		if err == nil {
			require.NoError(t, end.Send([]byte("on"))) // so that plain OpenSSL answers a KeyUpdate
		}
		listen()
		var failure *sslfilter.Error
		var direct *cpeer.EndError
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			b.ended = true
			if err := end.Send([]byte("after it")); err != nil { // a handshake that cannot complete; plain OpenSSL waits forever
				require.Equal(t, k.f.Err(), err)
				require.ErrorContains(t, err, "in the middle of a renegotiation")
			}
			listen()
		case errors.As(err, &failure):
			for _, r := range failure.Records {
				b.reasons = append(b.reasons, r.Reason)
			}
		case errors.As(err, &direct):
			b.reasons = direct.Reasons
		default:
			t.Fatal(err)
		}
		return b
	}
	listen()
	return b
}

// A Filter reacts to every input of a peer that has the keys in the same way as plain
// OpenSSL: with the same plaintext, answers, alerts, end and error queue.
func TestInteropSameAsPlainOpenSSL(t *testing.T) {
	all := steps()
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			t.Run(fmt.Sprintf("client %v", client), func(t *testing.T) {
				o := keyedOptions(client, v)
				ctx := testkit.Ctx(t, o)
				play := func(steps []step, cut testkit.Cut) (ours, theirs behaviour) {
					f := testkit.FilterOf(t, ctx)
					defer f.Close()
					k := connectKeyed(t, f, client, nil)
					f.Outgoing(nil)
					ours = k.behave(t, f, steps, cut)

					end, err := cpeer.NewEnd(client, uint16(v), o.Crt, o.Key, o.Cipher, "TLS_AES_128_GCM_SHA256")
					require.NoError(t, err)
					defer end.Close()
					k = &keyed{plain: end, client: client}
					k.connect(t, nil)
					end.Outgoing(nil)
					return ours, k.behave(t, end, steps, testkit.Whole)
				}
				compare := func(steps []step, name string, cut testkit.Cut) {
					ours, theirs := play(steps, cut)
					var names []string
					for _, s := range steps {
						names = append(names, s.name)
					}
					require.Equal(t, theirs, ours, "%q, %s", names, name)
				}
				for _, s := range all {
					compare([]step{s}, "whole", testkit.Whole)
					compare([]step{s}, "byte at a time", testkit.Size(1))
				}
				seed := rand.Uint64()
				random := rand.New(rand.NewPCG(seed, seed))
				rounds := 100
				if testing.Short() {
					rounds = 10
				}
				for range rounds {
					var steps []step
					for range 2 + random.IntN(4) {
						steps = append(steps, all[random.IntN(len(all))])
					}
					compare(steps, fmt.Sprintf("seed %d", seed), testkit.Random(random.Uint64()))
				}
			})
		}
	})
}
