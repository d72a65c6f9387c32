package sslfilter_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// resuming makes a server resume sessions of clients with certificates, with the keys of k.
func resuming(k *sslfilter.TicketKeys) testkit.Change {
	return func(o *sslfilter.Options) { o.ResumeClientCert, o.TicketKeys = true, k }
}

// meet connects to a server of ctx and returns it. The connection may fail.
func (v *visitor) meet(t testing.TB, ctx *sslfilter.Ctx) (*sslfilter.Filter, testkit.GoPeer) {
	t.Helper()
	f := testkit.FilterOf(t, ctx)
	return f, testkit.TalkToGo(t, f, false, v.config)
}

// answers are what a program can ask about a client.
type answers struct {
	exists, valid, notOnCRL, proved bool
	ids                             []sslfilter.CertID
	peer                            *sslfilter.Peer
	text                            string
	names                           *sslfilter.Names
}

func ask(f *sslfilter.Filter) (a answers) {
	a = answers{exists: f.ClientCertExists(), valid: f.ClientCertValid(), notOnCRL: f.ClientCertNotOnCRL(testkit.PKI("crl.pem")), ids: f.ClientCertIDs(), peer: f.Peer()}
	a.proved, a.text = a.peer.KeyProved, a.peer.String()
	if len(a.peer.Chain) > 0 {
		a.names, _ = a.peer.Chain[0].Names()
	}
	return a
}

// clientsOfPKI returns the certificates for clients in the test PKI that crypto/tls can use, with
// their keys.
func clientsOfPKI(t *testing.T) map[string]string {
	t.Helper()
	clients := make(map[string]string)
	for _, pattern := range []string{"client*.crt", "client*-chain.pem"} {
		found, err := filepath.Glob(testkit.PKI(pattern))
		require.NoError(t, err)
		for _, file := range found {
			crt := filepath.Base(file)
			base := strings.TrimSuffix(strings.TrimSuffix(crt, ".crt"), "-chain.pem")
			for _, key := range []string{base + ".key", "client.key"} {
				if _, err := tls.LoadX509KeyPair(testkit.PKI(crt), testkit.PKI(key)); err == nil {
					clients[crt] = key
					break
				}
			}
		}
	}
	require.Greater(t, len(clients), 15)
	return clients
}

// After a resumption every answer about the client is that of a full handshake, for every client
// certificate of the test PKI and under every kind of policy. Only valid clients are resumed.
func TestResumeClientCert(t *testing.T) {
	clients := clientsOfPKI(t)
	for name, change := range map[string]testkit.Change{
		"plain":       func(*sslfilter.Options) {},
		"ignoring":    ignoring(7, 9, 10, 18, 19, 20, 21),
		"depth":       depth(1),
		"CACRL":       crl(testkit.PKI("crl.pem")),
		"CRL":         checking(sslfilter.CRLCheckLeaf, "crl.pem"),
		"CRL missing": both(checking(sslfilter.CRLCheckChain, "crl.pem"), allowMissing),
		"level 0":     testkit.Cipher("DEFAULT@SECLEVEL=0"),
	} {
		for kind, server := range map[string]func(...testkit.Change) sslfilter.Options{"asking": testkit.Asking, "requiring": testkit.Requiring, "blocking": func(changes ...testkit.Change) sslfilter.Options {
			return testkit.With(testkit.Asking(func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }), changes...)
		}} {
			if kind != "asking" && name != "plain" && name != "CACRL" {
				continue // the records are the same
			}
			if testing.Short() && (name == "depth" || name == "level 0" || kind == "blocking") {
				continue
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
					ctx := testkit.Ctx(t, server(change, func(o *sslfilter.Options) { o.ResumeClientCert = true }))
					resumed := 0
					for crt, key := range clients {
						v := visiting(t, highest, crt, key)
						full, first := v.meet(t, ctx)
						require.False(t, full.Resumed(), crt)
						for range 2 {
							again, second := v.meet(t, ctx)
							require.Equal(t, full.ClientCertValid() && first.Err == nil, again.Resumed(), crt)
							require.Equal(t, first.Err == nil, second.Err == nil, "%s: %v, %v", crt, first.Err, second.Err)
							require.Equal(t, full.HandshakeDone(), again.HandshakeDone(), crt)
							require.Equal(t, first.Got, second.Got)
							require.Equal(t, ask(full), ask(again), crt)
							if again.Resumed() {
								resumed++
								require.Equal(t, first.Err == nil, again.Peer().KeyProved)
							}
						}
					}
					require.NotZero(t, resumed)
				})
			})
		}
	}
}

// client returns a function that connects to a server and offers the session of its last call, as a
// ticket or as the id of a stored session. The connection may fail.
func client(t *testing.T, stored bool, highest sslfilter.Version, crt, key string) func(ctx *sslfilter.Ctx) (*sslfilter.Filter, error) {
	t.Helper()
	if stored {
		s, g := shelf{}, newGuest(t, highest, crt, key)
		return func(ctx *sslfilter.Ctx) (*sslfilter.Filter, error) { return s.meet(t, g, ctx) }
	}
	v := visiting(t, highest, crt, key)
	return func(ctx *sslfilter.Ctx) (*sslfilter.Filter, error) {
		f, peer := v.meet(t, ctx)
		return f, peer.Err
	}
}

// A client whose certificate has expired since its last visit is not resumed, and is judged as at
// a first visit.
func TestResumeClientCertExpires(t *testing.T) {
	t.Parallel() // it waits
	type visit struct {
		name   string
		shelf  shelf
		client *guest
		server *sslfilter.Ctx
	}
	var visits []visit
	var until time.Time
	for valid, resumed := 2*time.Second, false; !resumed; valid *= 2 { // a slow machine needs longer
		require.Less(t, valid, 4*testkit.Patience)
		visits, resumed = nil, true
		until = time.Now().Add(valid).Truncate(time.Second)
		crt := testkit.Mint(t, x509.Certificate{Subject: pkix.Name{CommonName: "short"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until})
		for _, stored := range []bool{false, true} {
			for _, highest := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
				v := visit{
					fmt.Sprintf("%v, stored %t", highest, stored), shelf{},
					&guest{ctx: testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), func(o *sslfilter.Options) { o.CrtMem, o.Key = crt, testkit.PKI("client.key") }))},
					testkit.Ctx(t, testkit.Asking(resuming(nil), func(o *sslfilter.Options) { o.StatefulSessions = stored })),
				}
				v.shelf.visit(t, v.client, v.server)
				resumed = v.shelf.visit(t, v.client, v.server).Resumed() && resumed
				visits = append(visits, v)
			}
		}
		require.True(t, resumed || !time.Now().Before(until), "a valid client was not resumed")
	}
	time.Sleep(time.Until(until.Add(1100 * time.Millisecond)))
	for _, v := range visits {
		f := v.shelf.visit(t, v.client, v.server)
		require.False(t, f.Resumed(), v.name)
		require.False(t, f.ClientCertValid(), v.name)
		require.True(t, slices.ContainsFunc(f.ClientCertIDs(), func(id sslfilter.CertID) bool { return id.Err == sslfilter.VerifyCertHasExpired }), v.name)
		require.Equal(t, ask(v.shelf.visit(t, &guest{ctx: v.client.ctx}, v.server)), ask(f), "%s: as at a first visit", v.name)
	}
}

// A ClientHello with the ticket of a client proves nothing if somebody else sends it: nothing is
// valid before the handshake is complete, and it cannot be completed.
func TestResumeClientCertReplayed(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for _, stored := range []bool{false, true} {
			ctx := testkit.Ctx(t, testkit.Requiring(resuming(nil), func(o *sslfilter.Options) { o.StatefulSessions = stored }))
			s, g := shelf{}, newGuest(t, highest, "client.crt", "client.key")
			full := s.visit(t, g, ctx)
			require.True(t, full.ClientCertValid())
			client := testkit.FilterOf(t, g.ctx)
			require.NoError(t, client.SetSession(g.session))
			require.NoError(t, client.Handshake())
			hello := client.Outgoing(nil)

			for _, then := range []string{"nothing", "the end", "junk", "its answer"} {
				thief := testkit.FilterOf(t, ctx)
				if stored {
					for id, data := range s {
						if thief.OfferSession([]byte(id), data) != nil {
							break
						}
					}
				}
				_, err := thief.Receive(nil, hello)
				require.NoError(t, err)
				answer := thief.Outgoing(nil)
				require.NotEmpty(t, answer)
				unproved := func() {
					t.Helper()
					a := ask(thief)
					require.False(t, a.valid || a.proved || thief.HandshakeDone(), then)
					require.False(t, a.peer.Valid, then)
					require.Empty(t, a.ids, then)
					require.Nil(t, thief.NewSessions())
				}
				unproved()
				switch then {
				case "the end":
					require.Error(t, thief.ReceiveEOF())
				case "junk":
					_, err = thief.Receive(nil, slices.Concat([]byte{22, 3, 3, 0, 64}, testkit.Bytes(64, 3)))
					require.Error(t, err)
				case "its answer": // the messages of the server itself
					_, err = thief.Receive(nil, answer)
					require.Error(t, err)
				}
				unproved()
			}
		}
	})
}

// A change between two visits has the same effect as at a first visit.
func TestResumeClientCertJudgesAnew(t *testing.T) {
	list := func(serials ...int64) []byte { return testkit.CRL(t, serials...) }
	for _, kind := range []struct {
		name             string
		enforced, stored bool
	}{{"asking, ", false, false}, {"requiring, ", true, false}, {"asking, stored, ", false, true}, {"requiring, stored, ", true, true}} {
		enforced := kind.enforced
		server := func(k *sslfilter.TicketKeys, changes ...testkit.Change) sslfilter.Options {
			base := testkit.Asking
			if enforced {
				base = testkit.Requiring
			}
			return base(append(changes, resuming(k), func(o *sslfilter.Options) { o.StatefulSessions = kind.stored })...)
		}
		for name, c := range map[string]struct {
			crt, key string
			before   testkit.Change
			file     string                          // a CRL file that before uses and after replaces
			after    func(t *testing.T, file string) // changes the file
			second   testkit.Change                  // options of a second context with the same keys; nil if there is none
			resumes  bool
			valid    bool
		}{
			"nothing": {crt: "client.crt", resumes: true, valid: true},
			"serial revoked": {crt: "client.crt", before: func(o *sslfilter.Options) {}, file: "CACRL", after: func(t *testing.T, file string) {
				require.NoError(t, os.WriteFile(file, list(0x2001), 0o600))
			}},
			"another serial revoked": {crt: "client.crt", file: "CACRL", after: func(t *testing.T, file string) {
				require.NoError(t, os.WriteFile(file, list(0x7777), 0o600))
			}, resumes: true, valid: true},
			"CACRL gone": {crt: "client.crt", file: "CACRL", after: func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }},
			"revoked by CRLCheck": {crt: "client.crt", file: "CRLFiles", after: func(t *testing.T, file string) {
				require.NoError(t, os.WriteFile(file, list(0x2001), 0o600))
			}},
			"CRL of CRLCheck gone":  {crt: "client.crt", file: "CRLFiles", after: func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }},
			"CA removed":            {crt: "client.crt", second: func(o *sslfilter.Options) { o.CACrt = testkit.PKI("other.crt") }},
			"CA added":              {crt: "client.crt", second: func(o *sslfilter.Options) { o.CACrt = testkit.PKI("ca-both.pem") }, valid: true},
			"error ignored no more": {crt: "client-expired.crt", before: ignoring(10), second: func(o *sslfilter.Options) { o.IgnoreVerifyErrors = nil }},
			"same options":          {crt: "client-expired.crt", before: ignoring(10), second: ignoring(10), resumes: true, valid: true},
			"depth":                 {crt: "client-deep-chain.pem", key: "client-deep.key", second: depth(1)},
			"CRLCheck added":        {crt: "client.crt", second: checking(sslfilter.CRLCheckLeaf, "crl.pem"), valid: true},
			"another ALPN":          {crt: "client.crt", second: func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }, valid: true},
			"required":              {crt: "client.crt", second: func(o *sslfilter.Options) { o.BlockBadClientCert = true }, valid: true, resumes: enforced},
			"another certificate":   {crt: "client.crt", second: func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI("server-ec.crt"), testkit.PKI("server-ec.key") }, valid: true},
		} {
			t.Run(kind.name+name, func(t *testing.T) {
				testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
					k := ticketKeys(t)
					changes := []testkit.Change{}
					if c.before != nil {
						changes = append(changes, c.before)
					}
					file := testkit.TempFile(t, "crl.pem", list(0x7000))
					changes = append(changes, func(o *sslfilter.Options) {
						switch c.file {
						case "CACRL":
							o.CACRL = file
						case "CRLFiles":
							o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file}
						}
					})
					ctx := testkit.Ctx(t, server(k, changes...))
					key := c.key
					if key == "" {
						key = strings.TrimSuffix(c.crt, ".crt") + ".key"
						if _, err := os.Stat(testkit.PKI(key)); err != nil {
							key = "client.key"
						}
					}
					meet := client(t, kind.stored, highest, c.crt, key)
					for i := range 2 {
						f, err := meet(ctx)
						require.NoError(t, err)
						require.Equal(t, i > 0, f.Resumed())
					}
					if c.after != nil {
						c.after(t, file)
					}
					if c.second != nil {
						ctx = testkit.Ctx(t, server(k, append(changes, c.second)...))
					}
					f, err := meet(ctx)
					require.Equal(t, c.resumes, f.Resumed() && f.HandshakeDone())
					require.Equal(t, c.valid, f.ClientCertValid())
					require.Equal(t, c.valid || !enforced, err == nil, "%v", err)
					other, _ := client(t, kind.stored, highest, c.crt, key)(ctx)
					require.Equal(t, ask(other), ask(f), "as at a first visit")
				})
			})
		}
	}
}

// A client whose certificates do not fit into a ticket gets none, and its handshake succeeds,
// even if they do not fit into a session of OpenSSL.
func TestResumeClientCertLargeChain(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for _, size := range []int{10 << 10, 70 << 10} {
			ctx := testkit.Ctx(t, testkit.Requiring(resuming(new(sslfilter.TicketKeys))))
			v := visiting(t, highest, "client.crt", "client.key")
			sent := &v.config.Certificates[0].Certificate
			for own := (*sent)[0]; len(*sent)*len(own) < size; {
				*sent = append(*sent, own)
			}
			for range 2 {
				require.False(t, v.visit(t, ctx), "%d bytes", size)
			}
		}
	})
}

// A client whose own certificate is too large for a ticket of TLS (65,535 bytes), or for a ticket that
// every OpenSSL accepts, gets none. Its handshake succeeds, and the server shows the certificate.
func TestResumeClientCertLargeCertificate(t *testing.T) {
	kinds := map[string]testkit.Change{"tickets": nil, "stored": func(o *sslfilter.Options) { o.StatefulSessions = true }}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				for _, size := range []int{7 << 10, 9 << 10, 63 << 10, 65 << 10, 66 << 10, 90 << 10} {
					text := testkit.Mint(t, x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, size)}}})
					ctx := testkit.Ctx(t, testkit.Requiring(resuming(new(sslfilter.TicketKeys)), kind))
					s, g := shelf{}, &guest{ctx: testkit.Ctx(t, testkit.Showing("", "client.key", testkit.UpTo(highest), func(o *sslfilter.Options) { o.CrtMem = text }))}
					for i := range 2 {
						f, err := s.meet(t, g, ctx)
						require.NoError(t, err, "%d bytes", size)
						require.Equal(t, i > 0 && (size == 7<<10 || kind != nil), f.Resumed(), "%d bytes", size)
						require.True(t, f.ClientCertValid())
						require.Equal(t, testkit.DER(t, text), f.Peer().Sent[0])
						require.Len(t, f.ClientCertIDs(), 2)
					}
				}
			})
		})
	}
}

// A context keeps the parsed certificates of clients that it accepts, and not those of others, which
// could otherwise displace them.
func TestResumeClientCertKeepsWhatIsValid(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		key := ticketKey("one")
		for crt, kept := range map[string]int{"client.crt": 1, "self-signed": 0} {
			for _, second := range []bool{false, true} {
				ctx := testkit.Ctx(t, testkit.Asking(resuming(ticketKeys(t, key))))
				v := visiting(t, highest, "client.crt", "client.key")
				if kept == 0 {
					v.config.Certificates[0].Certificate = [][]byte{testkit.DER(t, testkit.SelfSigned(t, x509.Certificate{}))}
				}
				v.visit(t, ctx)
				require.Equal(t, kept, sslfilter.CachedCerts(ctx), crt)
				if second { // another context, which has parsed none
					ctx = testkit.Ctx(t, testkit.Asking(resuming(ticketKeys(t, key))))
				}
				require.Equal(t, kept > 0, v.visit(t, ctx))
				require.Equal(t, kept, sslfilter.CachedCerts(ctx), crt)
			}
		}
	})
}

// A context keeps parsed certificates of a bounded number of clients. More clients than that are
// resumed all the same, each with its own certificate and its own verdict. The certificates here
// share one set of cgo_certs.c, which has four places.
func TestResumeClientCertOfManyClients(t *testing.T) {
	const clients, sets = 5, 128
	key := testkit.KeyPair(t, "client-ec.crt", "client-ec.key")
	found := make(map[int][][]byte)
	var certs [][]byte
	for serial := int64(1); certs == nil; serial++ {
		der := testkit.DER(t, testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{SerialNumber: big.NewInt(serial)}, key.PrivateKey.(crypto.Signer).Public()))
		set := (int(der[len(der)-2])<<8 | int(der[len(der)-1])) % sets
		if found[set] = append(found[set], der); len(found[set]) == clients {
			certs = found[set]
		}
	}
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		file := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x7000))
		ctx := testkit.Ctx(t, testkit.Asking(resuming(ticketKeys(t)), crl(file)))
		visitors := make([]*visitor, clients)
		for i, der := range certs {
			visitors[i] = visiting(t, highest, "client-ec.crt", "client-ec.key")
			visitors[i].config.Certificates[0].Certificate = [][]byte{der}
		}
		for round := range 3 {
			for i, v := range visitors {
				f, peer := v.meet(t, ctx)
				require.NoError(t, peer.Err)
				require.Equal(t, round > 0, f.Resumed())
				require.True(t, f.ClientCertValid())
				require.Equal(t, certs[i], f.Peer().Chain[0].DER)
			}
		}
		revoked, err := x509.ParseCertificate(certs[clients-1])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, testkit.CRL(t, revoked.SerialNumber.Int64()), 0o600))
		for i, v := range visitors {
			f, _ := v.meet(t, ctx)
			require.Equal(t, i < clients-1, f.Resumed())
			require.Equal(t, i < clients-1, f.ClientCertValid(), "a certificate that is kept is verified as any other")
		}
	})
}
