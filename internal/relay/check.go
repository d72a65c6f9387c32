package relay

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// Findings counts the problems that Check has found.
type Findings struct {
	Errors int // problems that prevent the start
	Weak   int // weaknesses
}

// Check explains c: the addresses and backends of each relay, the exact cipher
// suites and every certificate. It reports errors and weaknesses. It loads
// everything as the relay does, but it opens no listener, connects to nothing and
// writes no file.
func Check(w io.Writer, c *config.Config, now time.Time) Findings { return CheckWith(w, c, now, nil) }

// CheckWith is Check for a program that can open the store of [sessions].
func CheckWith(w io.Writer, c *config.Config, now time.Time, sessions OpenSessions) Findings {
	r := &report{w: w, now: now}
	r.line("", "linked with", sslfilter.OpenSSLVersion())
	if c.Counters != "" {
		r.line("", "counters", "http://"+c.Counters+"/debug/vars")
		if c.CountersRemote {
			r.weak("counters-remote: anyone who can reach the address can read the counters")
		}
	}
	keys := r.keys(&c.Sessions, sessions)
	if keys.shared != nil {
		defer keys.shared.Close()
	}
	if err := c.CheckAddresses(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			r.wrong("%s", line)
		}
	}
	states := make([]*state, len(c.Relays))
	for i := range c.Relays {
		if states[i] = r.relay(&c.Sessions, &c.Relays[i], keys); states[i] != nil {
			defer states[i].retire()
		}
	}
	r.serverNames(c, states)
	fmt.Fprintf(w, "\n%d errors, %d weak points\n", r.Errors, r.Weak)
	return r.Findings
}

// report writes lines and counts findings.
type report struct {
	Findings
	w   io.Writer
	now time.Time
}

func (r *report) line(indent, what, text string) {
	fmt.Fprintf(r.w, "%s%-14s %s\n", indent, what, text)
}

func (r *report) weak(format string, args ...any) {
	r.Weak++
	fmt.Fprintf(r.w, "  WEAK: "+format+"\n", args...)
}

func (r *report) wrong(format string, args ...any) {
	r.Errors++
	fmt.Fprintf(r.w, "  ERROR: "+format+"\n", args...)
}

func (r *report) note(format string, args ...any) {
	fmt.Fprintf(r.w, "  note: "+format+"\n", args...)
}

// keys explains how sessions are shared.
func (r *report) keys(c *config.Sessions, sessions OpenSessions) *keyring {
	shared, err := openSessions(c, sessions, slog.New(slog.DiscardHandler))
	switch {
	case err != nil:
		r.wrong("%v", err)
	case shared != nil:
		how := "shared through "
		if c.Stateful {
			how = "stored in "
		}
		r.line("", "sessions", how+shared.String()+", sealed with "+c.SecretFile)
	}
	switch keys, err := c.ReadTicketKeys(); {
	case err != nil:
		r.wrong("%v", err)
	case keys != nil:
		r.line("", "sessions", fmt.Sprintf("ticket keys: %d in %s; the one named %x encrypts", len(keys), c.TicketKeys, keys[0][:16]))
		clear(keys)
		if info, err := os.Stat(c.TicketKeys); err == nil && info.Mode().Perm()&0o007 != 0 {
			r.weak("sessions.ticket-keys: every user of the system has access to %s, and could decrypt resumed connections with its keys", c.TicketKeys)
		}
	}
	return &keyring{shared: shared}
}

// relay explains one relay, and returns nil if it has an error.
func (r *report) relay(c *config.Sessions, conf *config.Relay, shared *keyring) *state {
	fmt.Fprintf(r.w, "\nrelay %q, mode %s\n", conf.Name, conf.Mode)
	r.listeners(conf)
	keys, err := shared.of(c, conf.Name, new(sslfilter.TicketKeys))
	conf.Server.SharedStore = shared.stored(conf.Name) != nil
	conf.Server.OnlyCheck, conf.Upstream.OnlyCheck = true, true
	var st *state
	if err == nil {
		st, err = newState(conf, slog.New(slog.DiscardHandler), keys)
	}
	if err != nil {
		r.wrong("%v", err)
		return nil
	}
	r.backends(st)
	if st.server != nil {
		r.serverSide(st)
	}
	if st.client != nil {
		r.clientSide(st)
	}
	return st
}

func (r *report) listeners(conf *config.Relay) {
	for _, s := range conf.Listen {
		e, err := config.ParseEndpoint(s, config.DirectTLS)
		if err != nil {
			continue // validate has reported it
		}
		r.line("  ", "listens", e.String())
		switch {
		case e.Security == config.Plain && !e.Local():
			r.weak("listen: %v has no TLS and can be reached from other machines", e)
		case e.Security == config.StartTLS && conf.AllowPlaintext:
			r.weak("allow-plaintext: clients of %v may send passwords in plain text", e)
		}
		if (conf.Server.RequireValidClientCert || conf.Server.BlockBadClientCert) && (e.Security == config.Plain || e.Security == config.StartTLS && conf.AllowPlaintext) {
			r.weak("listen: %v accepts clients without TLS, and so without a certificate", e)
		}
	}
	if conf.AllowUnauthenticated {
		r.weak("allow-unauthenticated: mail without a login comes from the relay's address, which the backend must not trust")
	}
}

func (r *report) backends(st *state) {
	far := 0
	show := func(what string, e config.Endpoint) {
		if what != "" {
			r.line("  ", "forwards", fmt.Sprintf("%s to %v", what, e))
		}
		if e.Security == config.Plain && !e.Local() {
			far++
		}
	}
	for _, user := range config.SortedKeys(st.conf.Users) {
		show("user "+user, st.users[config.UserKey(user)].Endpoint)
	}
	if st.conf.UsersFile != "" {
		r.line("  ", "forwards", fmt.Sprintf("%d users by %s", len(st.users)-len(st.conf.Users), st.conf.UsersFile))
		for _, e := range st.users {
			if _, shown := st.conf.Users[e.Name]; !shown {
				show("", e.Endpoint)
			}
		}
	}
	if st.backend != nil {
		who := "all connections"
		if len(st.users) > 0 {
			who = "all other users"
		}
		show(who, *st.backend)
	} else {
		r.note("other users cannot log in: there is no backend for them")
	}
	if keys := st.conf.Upstream.Given(); len(keys) > 0 && st.client == nil {
		r.weak("%s: no effect, because no backend uses TLS", strings.Join(keys, ", "))
	}
	if far > 0 {
		r.weak("%d backends on other machines are reached without TLS", far)
	}
}

func (r *report) serverSide(st *state) {
	t := &st.conf.Server
	fmt.Fprintln(r.w, "  TLS with clients")
	r.protocols("", st.server, t)
	r.certificates("", t.Crt, t.Chain, st.server, x509.ExtKeyUsageServerAuth)
	r.identities("", t, st.server, x509.ExtKeyUsageServerAuth)
	if len(t.Identities) > 0 {
		r.notCommon(st)
	}
	if st.server.AsksClientCert() && !t.ResumeClientCert {
		r.note("clients make a full handshake each time: resume-client-cert is not set")
	}
	r.stapling(st)
	r.secrets("", t.Crt, t.Key, t.Chain, t.KeyPassphrase)
	asks := st.server.AsksClientCert()
	r.line("    ", "client certs", clientCerts(t))
	switch {
	case t.RequireValidClientCert || t.BlockInvalidClientCert || !t.ClientCert:
	case t.BlockBadClientCert:
		r.weak("blockbadclientcert: a bad or revoked certificate is not rejected; requirevalidclientcert rejects it")
	case st.conf.Mode != config.ModeHTTP:
		r.weak("clientcert: in mode %s the verdict is only logged; requirevalidclientcert rejects clients", st.conf.Mode)
	}
	for _, client := range t.AllowClients {
		r.line("    ", "allows", client)
	}
	if asks && t.CACrt == "" {
		r.weak("cacrt: missing, so no client certificate is valid")
	}
	if t.CACrt != "" {
		r.authorities("cacrt", t.CACrt, st.server)
		if asks && t.CACRL == "" && len(t.CRLFiles) == 0 {
			r.weak("cacrl: missing, and crlcheck is not set either, so a revoked certificate stays valid")
		}
	}
	if t.CACRL != "" && r.lists("cacrl", "CACRL", st.server) == 0 {
		r.weak("cacrl: has no entries and therefore rejects every client, as in the original")
	}
	r.checkedLists("", st.server, t.CRLCheck.String(), t.CRLFiles, t.AllowMissingCRL, t.AllowExpiredCRL)
	if !asks && (t.CACrt != "" || t.CACRL != "") {
		r.weak("cacrt, cacrl: no effect without clientcert or requirevalidclientcert: every client is accepted")
	}
	if t.DHCert != "" {
		r.line("    ", "dhcert", t.DHCert)
	}
	r.ignored("ignoreVerifyErrors", t.IgnoreVerifyErrors)
	if t.SNI != "" {
		r.note("sni: no effect for clients")
	}
	if t.BlockBadClientCert && !asks {
		r.weak("blockbadclientcert: no effect without clientcert: every client is accepted")
	}
}

func (r *report) clientSide(st *state) {
	t := &st.conf.Upstream
	fmt.Fprintln(r.w, "  TLS with backends")
	r.protocols("backend-", st.client, t)
	r.certificates("backend-", t.Crt, t.Chain, st.client, x509.ExtKeyUsageClientAuth)
	r.identities("backend-", t, st.client, x509.ExtKeyUsageClientAuth)
	if t.OCSPCheck != sslfilter.OCSPOff {
		r.line("    ", "backend-ocspcheck", t.OCSPCheck.String())
	}
	r.secrets("backend-", t.Crt, t.Key, t.Chain, t.KeyPassphrase)
	switch {
	case t.InsecureSkipVerify:
		r.weak("backend-insecureskipverify: anyone can impersonate the backend")
	case t.CACrt == "":
		r.line("    ", "trusts", "the CAs of the system")
	}
	if t.CACrt != "" {
		r.authorities("backend-cacrt", t.CACrt, st.client)
	}
	if t.CACRL != "" && r.lists("backend-cacrl", "CACRL", st.client) == 0 {
		r.weak("backend-cacrl: has no entries and therefore rejects every backend, as in the original")
	}
	r.checkedLists("backend-", st.client, t.CRLCheck.String(), t.CRLFiles, t.AllowMissingCRL, t.AllowExpiredCRL)
	name := t.ServerName
	if name == "" {
		name = "the host in the backend's address"
	}
	if t.SNI != "" {
		r.line("    ", "sends", t.SNI)
	}
	r.line("    ", "verifies", name)
	r.ignored("backend-ignoreVerifyErrors", t.IgnoreVerifyErrors)
}

// protocols shows the versions and the exact cipher suites.
func (r *report) protocols(side string, ctx *sslfilter.Ctx, t *config.TLS) {
	if t.KeyLog != "" {
		r.weak("%skeylogfile: anyone who can read %s can decrypt the connections", side, t.KeyLog)
	}
	low, high := ctx.Versions()
	r.line("    ", "protocols", fmt.Sprintf("%v to %v", low, high))
	if low < sslfilter.VersionTLS12 {
		r.weak("%sminversion: TLS 1.0 and 1.1 are obsolete (RFC 8996)", side)
	}
	for i, c := range t.Conf {
		r.line("    ", fmt.Sprintf("%sconf %d", side, i+1), c.Name+" "+c.Value)
	}
	if t.SignatureAlgorithms != "" {
		r.line("    ", "signatures", t.SignatureAlgorithms)
	}
	suites := ctx.UsableCiphers()
	r.line("    ", "ciphers", fmt.Sprintf("%d, in this order:", len(suites)))
	groups := make(map[string][]string)
	for _, name := range suites {
		fmt.Fprintf(r.w, "                     %s\n", name)
		if why := weakSuite(name); why != "" {
			groups[why] = append(groups[why], name)
		}
	}
	for _, why := range config.SortedKeys(groups) {
		r.weak("%scipher: %s: %s", side, why, strings.Join(groups[why], " "))
	}
	r.settings(side, t, ctx)
}

// weakSuite describes the weakness of a suite with the given OpenSSL name.
func weakSuite(name string) string {
	has := func(words ...string) bool {
		for _, word := range words {
			if strings.Contains("-"+name+"-", "-"+word+"-") {
				return true
			}
		}
		return false
	}
	switch {
	case strings.HasPrefix(name, "TLS_SHA"), has("NULL"):
		return "no encryption"
	case strings.HasPrefix(name, "TLS_"):
		return ""
	case has("ADH", "AECDH"):
		return "no certificate, so anyone can intercept the connection"
	case has("RC4", "DES", "CBC3", "EXP", "RC2", "SEED", "IDEA"):
		return "a broken cipher"
	case has("MD5"):
		return "MD5"
	case !has("ECDHE", "DHE"):
		return "no forward secrecy"
	case !authenticated(name):
		return "CBC"
	}
	return ""
}

// authenticated reports whether the cipher of a suite also authenticates. In
// the other suites it is CBC with a MAC, or one of the ciphers that are broken.
func authenticated(name string) bool {
	for _, mode := range []string{"TLS_", "-GCM-", "-CCM", "-CHACHA20-"} {
		if strings.Contains(name, mode) {
			return true
		}
	}
	return false
}

// identities shows the certificates of identities.
func (r *report) identities(side string, t *config.TLS, ctx *sslfilter.Ctx, usage x509.ExtKeyUsage) {
	chains := ctx.Chains()
	files := config.SortedKeys(t.Identities)
	for i, chain := range chains[max(0, len(chains)-len(files)):] {
		what := fmt.Sprintf("%sidentities %d", side, i+1)
		for _, leaf := range r.parse(what, chain[:1]) {
			r.certificate(what, files[i], leaf)
			r.own(what, leaf, usage)
		}
	}
}

// stapling shows the OCSP responders.
func (r *report) stapling(st *state) {
	t := &st.conf.Server
	if !t.Stapling {
		if t.StaplingResponder != "" {
			r.weak("stapling-responder: no effect without stapling")
		}
		return
	}
	for i, staple := range st.staples {
		what := fmt.Sprintf("stapling %d", i+1)
		responders := staple.Responders()
		if t.StaplingResponder != "" {
			responders = []string{t.StaplingResponder}
		}
		switch _, err := staple.Request(); {
		case len(responders) == 0:
			r.weak("%s: the certificate names no OCSP responder, so nothing is stapled; stapling-responder sets one", what)
		case err != nil:
			r.weak("%s: the issuer of the certificate is neither in its chain nor in cacrt, so nothing is stapled", what)
		default:
			r.line("    ", what, "responses of "+strings.Join(responders, ", "))
		}
	}
}

// certificates shows the certificates that a side sends. The library has loaded
// them from chain, or from crt if chain is not set.
func (r *report) certificates(side, crt, chain string, ctx *sslfilter.Ctx, usage x509.ExtKeyUsage) {
	if crt == "" && chain == "" && len(ctx.Chains()) > 0 {
		return // the certificates are all in identities
	}
	list := r.parse(side+"crt", ctx.Chain())
	if len(list) == 0 {
		if crt != "" || chain != "" {
			r.wrong("%scrt: no certificate is sent", side)
		}
		return
	}
	key, file := side+"chain", chain
	if chain == "" {
		key, file = side+"crt", crt
	}
	for i, c := range list {
		what := fmt.Sprintf("%s %d", key, i+1)
		if i > 0 {
			file = "sent after it" // from the same file, or by OpenSSL from the CAs
		}
		r.certificate(what, file, c)
		if i == 0 {
			r.own(what, c, usage)
		} else if err := list[i-1].issuedBy(c); err != nil {
			r.weak("%s: is not the issuer of the certificate before it: %v", what, err)
		}
	}
	if own := list[0]; len(list) == 1 && !own.selfSigned() {
		r.note("%s: sent without an intermediate; clients need to know %s", key, own.names.Issuer)
	}
}

// parse parses certificates that a context has loaded.
func (r *report) parse(key string, ders [][]byte) []certificate {
	list, err := parseCertificates(ders)
	if err != nil {
		r.wrong("%s: %v", key, err)
	}
	return list
}

// own checks the certificate that the relay presents.
func (r *report) own(what string, c certificate, usage x509.ExtKeyUsage) {
	if usage == x509.ExtKeyUsageServerAuth {
		names := slices.Clone(c.names.DNSNames)
		for _, ip := range c.names.IPAddresses {
			names = append(names, ip.String())
		}
		r.line("      ", "names", strings.Join(names, " "))
		if len(names) == 0 {
			r.weak("%s: no subject alternative name, and clients no longer use the common name", what)
		}
		if c.names.Malformed > 0 {
			r.weak("%s: %d names are malformed and not shown", what, c.names.Malformed)
		}
	}
	if c.shown != nil && len(c.shown.ExtKeyUsage)+len(c.shown.UnknownExtKeyUsage) > 0 && !slices.Contains(c.shown.ExtKeyUsage, usage) && !slices.Contains(c.shown.ExtKeyUsage, x509.ExtKeyUsageAny) {
		r.weak("%s: its extended key usage does not allow this use", what)
	}
}

// certificate shows one certificate.
func (r *report) certificate(what, file string, c certificate) {
	r.line("    ", what, file)
	r.line("      ", "subject", c.names.Subject)
	r.line("      ", "issuer", c.names.Issuer)
	r.line("      ", "serial", sslfilter.Hexdump(c.Serial))
	r.line("      ", "valid", day(c.NotBefore)+" to "+day(c.NotAfter))
	weak := []string{dates(c, r.now)}
	if c.shown != nil {
		key, short := keyOf(c.shown)
		r.line("      ", "key", key+", signed with "+c.shown.SignatureAlgorithm.String())
		weak = append(weak, short, weakSignature(c))
	} else {
		r.note("%s: its key, signature and key usage cannot be displayed: %v; OpenSSL, which is less strict, decides about it", what, c.unreadable)
	}
	for _, why := range weak {
		if why != "" {
			r.weak("%s: %s", what, why)
		}
	}
}

// maxShown bounds the number of CAs that are shown.
const maxShown = 20

// authorities shows the CAs that a context trusts.
func (r *report) authorities(key, file string, ctx *sslfilter.Ctx) {
	list := r.parse(key, ctx.CAs())
	for i, c := range list {
		what := fmt.Sprintf("%s %d", key, i+1)
		if i == maxShown {
			r.line("    ", key, fmt.Sprintf("and %d more", len(list)-i))
			return
		}
		r.certificate(what, file, c)
		if c.shown != nil && !c.shown.IsCA {
			r.note("%s: is not marked as a CA", what)
		}
	}
}

// checkedLists shows the CRLs for crlcheck.
func (r *report) checkedLists(side string, ctx *sslfilter.Ctx, check string, files []string, missing, expired bool) {
	if len(files) == 0 {
		return
	}
	r.line("    ", side+"crlcheck", check)
	r.lists(side+"crlfiles", "CRLFiles", ctx)
	if missing {
		r.weak("%sallowmissingcrl: a revoked certificate is accepted if there is no CRL of its issuer", side)
	}
	if expired {
		r.weak("%sallowexpiredcrl: a certificate that was revoked after the CRL expired is accepted", side)
	}
}

// lists shows the CRLs of an option, as OpenSSL has parsed them, and counts their
// serials.
func (r *report) lists(key, option string, ctx *sslfilter.Ctx) (serials int) {
	all, err := ctx.CRLs()
	if err != nil { // a file has changed since the context was made
		r.wrong("%s: %v", key, err)
		return 1 // unknown
	}
	n := 0
	for _, list := range all {
		if list.Option != option {
			continue
		}
		n++
		serials += list.Serials
		what := fmt.Sprintf("%s %d", key, n)
		r.line("    ", what, fmt.Sprintf("%s: %d serials, issuer %s, last update %s", list.File, list.Serials, list.Issuer, day(list.ThisUpdate)))
		if list.NextUpdate.IsZero() || !r.now.After(list.NextUpdate) {
			continue
		}
		if option == "CRLFiles" {
			r.weak("%s: expired on %s; certificates of its issuer are rejected unless %s is set", what, day(list.NextUpdate), strings.Replace(key, "crlfiles", "allowexpiredcrl", 1))
		} else {
			r.weak("%s: the next update was due on %s; this CRL is still used", what, day(list.NextUpdate))
		}
	}
	return serials
}

// ignored reports verification errors that are ignored.
func (r *report) ignored(key string, codes []sslfilter.VerifyCode) {
	for _, code := range codes {
		if code.AdmitsAnyone() {
			r.weak("%s: %d (%v) is ignored, which alone accepts a certificate that anyone can make", key, int(code), code)
		} else {
			r.weak("%s: %d (%v) is ignored", key, int(code), code)
		}
	}
}

const (
	// maxPEM bounds the size of a file that is searched for a private key, in
	// bytes.
	maxPEM = 64 << 20
)

// secrets checks the permissions of files with a private key or a passphrase.
func (r *report) secrets(side, crt, key, chain, passphrase string) {
	r.secretFile(side+"key", key)
	for _, f := range []struct{ key, file string }{{"crt", crt}, {"chain", chain}} {
		if data, err := config.ReadRegular(f.file, maxPEM); f.file != "" && err == nil && bytes.Contains(data, []byte("PRIVATE KEY-----")) {
			r.secretFile(side+f.key, f.file)
		}
	}
	if file, ok := strings.CutPrefix(passphrase, "file:"); ok {
		r.secretFile(side+"keypassphrase", file)
	}
}

// secretFile checks the permissions of a file.
func (r *report) secretFile(key, file string) {
	if file == "" {
		return
	}
	info, err := os.Stat(file)
	if err != nil {
		r.wrong("%s: %v", key, err)
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o004 != 0:
		r.weak("%s: %s is readable by all users of this machine", key, file)
	case mode&0o002 != 0:
		r.weak("%s: %s is writable by all users of this machine", key, file)
	}
}
