package relay

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// check runs Check at a time when the test PKI is valid.
func check(t *testing.T, lines ...string) (Findings, string) {
	t.Helper()
	c, err := config.Parse([]byte(relayTable(lines...)))
	require.NoError(t, err)
	var out strings.Builder
	found := Check(&out, c, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	return found, out.String()
}

func TestCheckExplains(t *testing.T) {
	found, out := check(t, `mode = "imap"`, `listen = ["starttls:127.0.0.1:143"]`, crt(),
		`cipher = "ECDHE+AESGCM"`, `signaturealgorithms = "RSA-PSS+SHA256:ECDSA+SHA256"`, `conf = ["RecordPadding 4096", "Options -EncryptThenMac"]`, `backend-conf = ["Groups P-256"]`, fmt.Sprintf("cacrt = %q\ncacrl = %q", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl.pem")), "requirevalidclientcert = true",
		`backend = "tls:mail.example.org:993"`, fmt.Sprintf("backend-cacrt = %q\nbackend-tls1_2 = true\nbackend-cipher = \"AES128-SHA256\"", testkit.AbsPKI("root.crt")), "[relay.users]", `user1 = "127.0.0.1:143"`)
	require.Zero(t, found.Errors, out)
	for _, want := range []string{
		"listens        starttls:127.0.0.1:143", "forwards       user user1 to plain:127.0.0.1:143", "forwards       all other users to tls:mail.example.org:993",
		"TLSv1.2 to TLSv1.3", "TLS_AES_256_GCM_SHA384\n", "ECDHE-RSA-AES128-GCM-SHA256\n",
		"crt 1          " + testkit.AbsPKI("server.crt"), "names          localhost", "serial         10:01", "key            RSA 2048 bits, signed with SHA256-RSA",
		"signatures     RSA-PSS+SHA256:ECDSA+SHA256", "conf 1         RecordPadding 4096", "conf 2         Options -EncryptThenMac", "backend-conf 1 Groups P-256",
		"client certs   valid one required", "cacrl 1        " + testkit.AbsPKI("crl.pem") + ": 1 serials", "verifies       the host in the backend's address",
	} {
		require.Contains(t, out, want)
	}
	require.Contains(t, out, "TLSv1.2 to TLSv1.2")
	require.Contains(t, out, "WEAK: backend-cipher: no forward secrecy: AES128-SHA256\n")
	require.NotContains(t, out, "AES256-SHA384\n") // this suite is not offered
}

func TestCheckFindsWhatIsWeak(t *testing.T) {
	where, old := "backend = \"127.0.0.1:1\"\n", "cipher = \"DEFAULT@SECLEVEL=0\"\n"
	for name, c := range map[string]struct{ lines, want string }{
		"short key":                 {fmt.Sprintf("crt = %q\nkey = %q\ncipher = \"DEFAULT@SECLEVEL=0\"\n", testkit.AbsPKI("server-1024.crt"), testkit.AbsPKI("server-1024.key")), "crt 1: an RSA key of 1024 bits"},
		"SHA-1":                     {fmt.Sprintf("crt = %q\nkey = %q\ncipher = \"DEFAULT@SECLEVEL=0\"\n", testkit.AbsPKI("server-sha1.crt"), testkit.AbsPKI("server-sha1.key")), "crt 1: a signature with SHA1-RSA"},
		"security level":            {crt() + "cipher = \"DEFAULT@SECLEVEL=0\"\n", "@SECLEVEL=0 allows"},
		"expired":                   {fmt.Sprintf("crt = %q\nkey = %q\n", testkit.AbsPKI("server-expired.crt"), testkit.AbsPKI("server-expired.key")), "crt 1: expired on"},
		"CBC":                       {crt() + "cipher = \"ECDHE-RSA-AES128-SHA\"\n", "cipher: CBC: ECDHE-RSA-AES128-SHA"},
		"no forward secrecy":        {crt() + "cipher = \"AES128-GCM-SHA256\"\n", "cipher: no forward secrecy: AES128-GCM-SHA256"},
		"anonymous":                 {crt() + "cipher = \"AECDH-AES256-SHA:@SECLEVEL=0\"\n", "no certificate, so anyone can intercept the connection"},
		"old protocol":              {crt() + "minversion = \"1.0\"\ncipher = \"DEFAULT@SECLEVEL=0\"\n", "minversion: TLS 1.0 and 1.1 are obsolete"},
		"old protocol by a command": {crt() + "conf = [\"MinProtocol TLSv1\", \"CipherString DEFAULT@SECLEVEL=0\"]\n", "minversion: TLS 1.0 and 1.1 are obsolete"},
		"level by a command":        {crt() + "conf = [\"cipherstring DEFAULT@SECLEVEL=0\"]\n", "@SECLEVEL=0 allows"},
		"resumption by a command":   {crt() + "conf = [\"Options AllowNoDHEKEX\"]\n", "conf: Options AllowNoDHEKEX: resumed sessions of TLS 1.3 may have no forward secrecy"},
		"signatures by a command":   {crt() + old + "conf = [\"SignatureAlgorithms RSA-PSS+SHA256:RSA+SHA1\"]\n", "conf: signatures with a broken hash: RSA+SHA1\n"},
		"signatures of clients":     {crt() + old + "conf = [\"ClientSignatureAlgorithms RSA+SHA256:ECDSA+SHA1\"]\n", "conf: signatures with a broken hash: ECDSA+SHA1\n"},
		"old signatures":            {crt() + old + "signaturealgorithms = \"RSA-PSS+SHA256:rsa_pkcs1_sha1\"\n", "signaturealgorithms: signatures with a broken hash: rsa_pkcs1_sha1\n"},
		"signatures of backends":    {crt() + "backend = \"tls:h:1\"\nbackend-cipher = \"DEFAULT@SECLEVEL=0\"\nbackend-conf = [\"SignatureAlgorithms RSA+SHA256:RSA+SHA1\"]\n", "backend-conf: signatures with a broken hash: RSA+SHA1\n"},
		"short groups":              {crt() + old + "groups = \"P-256:P-224\"\n", "groups: groups of less than 256 bits: P-224\n"},
		"short groups by a command": {crt() + old + "conf = [\"Groups secp224r1:P-384\"]\n", "conf: groups of less than 256 bits: secp224r1\n"},
		"CBC as it was":             {crt() + "cipher = \"ECDHE-RSA-AES128-SHA\"\nconf = [\"Options -EncryptThenMac\"]\n", "conf: Options -EncryptThenMac: padding of CBC suites is not authenticated"},
		"CBC of TLS 1.0":            {crt() + "minversion = \"1.0\"\n" + old + "conf = [\"Options Bugs\"]\n", "conf: Options -EmptyFragments: CBC suites of TLS 1.0"},
		"key log":                   {crt() + fmt.Sprintf("keylogfile = %q\n", t.TempDir()+"/keys"), "keylogfile: anyone who can read "},
		"ignored errors":            {crt() + "ignoreVerifyErrors = [10, 20]\n", "ignoreVerifyErrors: 20 (unable to get local issuer certificate) is ignored, which alone accepts a certificate that anyone can make"},
		"no CRL":                    {crt() + fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true\n", testkit.AbsPKI("root.crt")), "cacrl: missing"},
		"empty CRL":                 {crt() + fmt.Sprintf("cacrt = %q\nclientcert = true\ncacrl = %q\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl-empty.pem")), "rejects every client"},
		"no checked CRL":            {crt() + fmt.Sprintf("cacrt = %q\nclientcert = true\ncrlcheck = \"leaf\"\ncrlfiles = [%q]\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl-expired.pem")), "certificates of its issuer are rejected unless allowexpiredcrl is set"},
		"missing allowed":           {crt() + fmt.Sprintf("cacrt = %q\nclientcert = true\ncrlcheck = \"leaf\"\nallowmissingcrl = true\ncrlfiles = [%q]\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl.pem")), "is accepted if there is no CRL of its issuer"},
		"old CRL":                   {crt() + fmt.Sprintf("cacrt = %q\nclientcert = true\ncacrl = %q\n", testkit.AbsPKI("root.crt"), testkit.AbsPKI("crl-expired.pem")), "the next update was due"},
		"no CA":                     {crt() + "clientcert = true\n", "cacrt: missing"},
		"verdict in the log":        {crt() + "clientcert = true\n", "in mode tcp the verdict is only logged"},
		"blockbadclientcert":        {crt() + "clientcert = true\nblockbadclientcert = true\n", "requirevalidclientcert rejects it"},
		"any backend":               {crt() + "backend-insecureskipverify = true\nbackend = \"tls:h:1\"\n", "anyone can impersonate the backend"},
		"far backend":               {crt() + "backend = \"192.0.2.1:25\"\n", "reached without TLS"},
		"CA and nobody asked":       {crt() + fmt.Sprintf("cacrt = %q\n", testkit.AbsPKI("root.crt")), "cacrt, cacrl: no effect"},
		"blocks nobody":             {crt() + "blockbadclientcert = true\n", "blockbadclientcert: no effect without clientcert"},
		"a way around":              {crt() + fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true\nlisten = [\"127.0.0.1:0\", \"plain:127.0.0.1:0\"]\n", testkit.AbsPKI("root.crt")), "plain:127.0.0.1:0 accepts clients without TLS"},
		"a way without TLS":         {crt() + fmt.Sprintf("mode = \"imap\"\ncacrt = %q\nrequirevalidclientcert = true\nallow-plaintext = true\nlisten = [\"starttls:127.0.0.1:0\"]\n", testkit.AbsPKI("root.crt")), "starttls:127.0.0.1:0 accepts clients without TLS"},
		"users without TLS":         {crt() + trust() + "mode = \"imap\"\n[relay.users]\na = \"127.0.0.1:1\"\n", "backend-cacrt, backend-servername: no effect"},
		"open key in a chain":       {fmt.Sprintf("chain = %q\n", readable(t, joined(t, testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key")))), "joined.pem is readable by all users"},
		"open passphrase":           {fmt.Sprintf("crt = %q\nkey = %q\nkeypassphrase = \"file:%s\"\n", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), readable(t, write(t, t.TempDir()+"/pass", []byte("secret")))), "/pass is readable by all users"},
		"plain from other machines": {"listen = [\"plain:0.0.0.0:1\"]\n", "has no TLS and can be reached from other machines"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := c.lines
			if !strings.Contains(lines, "backend = ") {
				lines = where + lines
			}
			if !strings.Contains(lines, "listen") {
				lines = "listen = [\"127.0.0.1:0\"]\n" + lines
			}
			found, out := check(t, lines)
			require.Contains(t, out, "  WEAK: ")
			require.Contains(t, out, c.want)
			require.Positive(t, found.Weak)
			require.Zero(t, found.Errors, out)
		})
	}
}

// Weak settings that only some versions of OpenSSL have.
func TestCheckFindsWhatIsWeakInNewerVersions(t *testing.T) {
	for _, c := range []struct {
		since       string
		lines, want string
	}{
		{"3.0", `conf = ["Options -ExtendedMasterSecret"]`, "conf: Options -ExtendedMasterSecret: keys of TLS 1.2 are not bound to the handshake (RFC 7627)"},
		{"3.3", `conf = ["Options PreferNoDHEKEX"]`, "conf: Options PreferNoDHEKEX: resumed sessions of TLS 1.3 may have no forward secrecy"},
		{"3.4", "cipher = \"DEFAULT@SECLEVEL=0\"\nciphersuites = \"TLS_AES_128_GCM_SHA256:TLS_SHA256_SHA256\"", "cipher: no encryption: TLS_SHA256_SHA256\n"},
	} {
		t.Run(c.lines, func(t *testing.T) {
			if version, _ := strings.CutPrefix(sslfilter.OpenSSLVersion(), "OpenSSL "); version < c.since {
				t.Skip("needs OpenSSL " + c.since)
			}
			found, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), c.lines)
			require.Zero(t, found.Errors, out)
			require.Contains(t, out, "  WEAK: "+c.want)
		})
	}
}

// Commands that have no effect are not weak: a later one takes them back, or the
// versions and suites do not need what they switch off.
func TestCheckAcceptsCommands(t *testing.T) {
	for _, lines := range []string{
		`conf = ["Options -ServerPreference, PrioritizeChaCha", "RecordPadding 512", "NumTickets 1"]`,
		"conf = [\"Options -EncryptThenMac,-EmptyFragments,Bugs\"]\ncipher = \"ECDHE+AESGCM\"",
		`conf = ["Options AllowNoDHEKEX", "Options -AllowNoDHEKEX"]`, `conf = ["Options +AllowNoDHEKEX", "MaxProtocol TLSv1.2"]`,
		`conf = ["SignatureAlgorithms RSA+SHA1", "signaturealgorithms RSA-PSS+SHA256:RSA+SHA256"]`,
		`conf = ["Groups P-224", "Curves P-256:P-521:P-384"]`,
		`conf = ["CipherString DEFAULT@SECLEVEL=0", "CipherString ECDHE+AESGCM:@SECLEVEL=2"]`,
	} {
		if !strings.Contains(lines, "cipher") && !strings.Contains(lines, "CipherString") {
			lines += "\ncipher = \"ECDHE+AESGCM\""
		}
		found, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), lines)
		require.Zero(t, found.Errors, out)
		require.NotRegexp(t, "WEAK: (conf|cipher|groups|signaturealgorithms)", out)
	}
}

// readable makes a file readable by all users.
func readable(t *testing.T, file string) string {
	t.Helper()
	require.NoError(t, os.Chmod(file, 0o644))
	return file
}

func TestCheckFindsAChainInTheWrongOrder(t *testing.T) {
	inter, root := testkit.AbsPKI("inter.crt"), testkit.AbsPKI("root.crt")
	file := joined(t, testkit.AbsPKI("server-inter.crt"), root, inter)
	found, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, fmt.Sprintf("crt = %q\nkey = %q", file, testkit.AbsPKI("server-inter.key")))
	require.Contains(t, out, "crt 2: is not the issuer of the certificate before it")
	require.Positive(t, found.Weak)

	file = joined(t, testkit.AbsPKI("server-inter.crt"), inter, root)
	_, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, fmt.Sprintf("crt = %q\nkey = %q", file, testkit.AbsPKI("server-inter.key")))
	require.NotContains(t, out, "is not the issuer")
}

// joined makes a file with the contents of others.
func joined(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	var all []byte
	for _, f := range files {
		all = append(all, testkit.Contents(t, f)...)
	}
	return write(t, dir+"/joined.pem", all)
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	found, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, `crt = "nowhere.crt"`, `key = "nowhere.key"`)
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, "ERROR: crt (nowhere.crt): cannot open it")
	found, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`)
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, "ERROR: crt: is missing")
	_, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), fmt.Sprintf("keylogfile = %q", readable(t, write(t, t.TempDir()+"/keys", nil))))
	require.Contains(t, out, "ERROR: keylogfile: open ")
	require.Contains(t, out, "other users have access to it (mode 0644); change the mode to 0600")
	found, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "tls:127.0.0.1:1"`, crt(), `conf = ["RecordPadding 1", "VerifyMode Require"]`)
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, "ERROR: conf[1] VerifyMode: is not accepted: use clientcert, blockbadclientcert,")
	_, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "tls:127.0.0.1:1"`, crt(), `backend-groups = "P-256"`, `backend-conf = ["Curves P-256"]`)
	require.Contains(t, out, "ERROR: backend-conf[0] Curves: sets the same as backend-groups, which is given too")
}

// -check changes nothing: root may run it, and the relay starts as another user. The
// addresses in the configuration are taken, and nobody connects to them.
func TestCheckTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	address := func() string {
		l := testkit.Listen(t)
		t.Cleanup(func() {
			l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := l.Accept()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "-check has connected")
		})
		return l.Addr().String()
	}
	t.Setenv("SSLKEYLOGFILE", dir+"/backend-keys")
	users := write(t, dir+"/users", []byte("anna tls:"+address()+"\n"))
	tickets := write(t, dir+"/tickets", []byte(strings.Repeat("k", sslfilter.TicketKeySize)))
	c, err := config.Parse([]byte(fmt.Sprintf("counters = %q\n[sessions]\nticket-keys = %q\n", address(), tickets) + relayTable(
		`mode = "imap"`, fmt.Sprintf("listen = [%q]", address()), crt(), fmt.Sprintf("backend = \"tls:%s\"\nusers-file = %q", address(), users),
		fmt.Sprintf("keylogfile = %q", dir+"/keys"), `backend-keylogfile = "env:SSLKEYLOGFILE"`, "stapling = true", fmt.Sprintf("stapling-responder = \"http://%s/\"", address()))))
	require.NoError(t, err)
	before := folder(t, dir)
	var out strings.Builder
	found := Check(&out, c, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	require.Zero(t, found.Errors, out.String())
	require.Contains(t, out.String(), "WEAK: keylogfile: anyone who can read "+dir+"/keys can decrypt the connections")
	require.Equal(t, before, folder(t, dir))
}

// folder describes the files in a folder.
func folder(t *testing.T, dir string) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		files = append(files, fmt.Sprint(e.Name(), info.Mode(), info.Size(), info.ModTime()))
	}
	return files
}

// -check reports a key log that the relay could not open, and one that it could.
func TestCheckKeyLog(t *testing.T) {
	run := func(file string) (Findings, string) {
		return check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), fmt.Sprintf("keylogfile = %q", file))
	}
	dir := t.TempDir()
	kept := write(t, dir+"/keys", []byte("a line\n"))
	require.NoError(t, os.Chmod(kept, 0o600))
	found, out := run(kept)
	require.Zero(t, found.Errors, out)
	require.Equal(t, "a line\n", string(testkit.Contents(t, kept)))

	pipe := dir + "/pipe"
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	link := dir + "/link"
	require.NoError(t, os.Symlink(dir+"/nowhere", link))
	for file, want := range map[string]string{
		dir + "/no/keys": "create " + dir + "/no/keys: no such file or directory",
		kept + "/keys":   "lstat " + kept + "/keys: not a directory",
		dir:              "open " + dir + ": not a regular file",
		pipe:             "open " + pipe + ": not a regular file",
		link:             "open " + link + ": too many levels of symbolic links",
		"env:NO_SUCH":    "the environment variable NO_SUCH is not set",
	} {
		found, out = run(file)
		require.Equal(t, 1, found.Errors, file)
		require.Contains(t, out, "ERROR: keylogfile: "+want)
	}
	require.NoFileExists(t, dir+"/nowhere")
}

// odd returns the file of a certificate for the key client.key that OpenSSL can use and
// crypto/x509 rejects, because of a URI.
func odd(t *testing.T, notAfter time.Time, dnsNames ...string) string {
	t.Helper()
	alt := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("http://[::1")}}
	for _, name := range dnsNames {
		alt = append(alt, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
	}
	der, err := asn1.Marshal(alt)
	require.NoError(t, err)
	pem := testkit.Mint(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "odd"}, NotAfter: notAfter,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}},
	})
	_, err = x509.ParseCertificate(testkit.DER(t, pem))
	require.Error(t, err)
	return testkit.TempFile(t, "odd.crt", pem)
}

// Certificates are shown as OpenSSL has parsed them, even if crypto/x509 rejects them.
func TestCheckShowsCertificatesOfOpenSSL(t *testing.T) {
	lines := func(notAfter time.Time) string {
		return fmt.Sprintf("crt = %q\nkey = %q", odd(t, notAfter, "a.test", "*.b.test"), testkit.AbsPKI("client.key"))
	}
	_, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, lines(time.Date(2030, 1, 15, 0, 0, 0, 0, time.UTC)))
	for _, want := range []string{"subject        CN=odd\n", "issuer         CN=Oracle Root CA,O=Oracle Test,C=DE\n", "serial         47:11\n", " to 2030-01-15\n", "names          a.test *.b.test\n"} {
		require.Contains(t, out, want)
	}
	require.Contains(t, out, "WEAK: crt 1: expires in 14 days, on 2030-01-15\n")
	require.Contains(t, out, "note: crt 1: its key, signature and key usage cannot be displayed: ")
	require.Contains(t, out, "note: crt: sent without an intermediate; clients need to know CN=Oracle Root CA,O=Oracle Test,C=DE\n")
	_, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, lines(time.Date(2029, 1, 15, 0, 0, 0, 0, time.UTC)))
	require.Contains(t, out, "WEAK: crt 1: expired on 2029-01-15\n")
	_, out = check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), "clientcert = true", fmt.Sprintf("cacrt = %q", testkit.AbsPKI("client-serneg.crt")))
	require.Contains(t, out, "cacrt 1: its key, signature and key usage cannot be displayed: x509: negative serial number")
	require.Regexp(t, `serial +[0-9A-F:]+\n`, out)
}

// A chain in the wrong order is found too.
func TestCheckFindsAWrongIssuerOfAnOddCertificate(t *testing.T) {
	file := joined(t, odd(t, time.Time{}, "a.test"), testkit.AbsPKI("inter.crt"))
	_, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, fmt.Sprintf("crt = %q\nkey = %q", file, testkit.AbsPKI("client.key")))
	require.Contains(t, out, "WEAK: crt 2: is not the issuer of the certificate before it: that is CN=Oracle Root CA,O=Oracle Test,C=DE\n")
}

// CRLs are shown as OpenSSL has parsed them. crypto/x509 rejects the first of these.
func TestCheckShowsCRLsOfOpenSSL(t *testing.T) {
	old := testkit.CRLv1(t, 1, 2, 3)
	_, err := x509.ParseRevocationList(testkit.DER(t, old))
	require.Error(t, err)
	file := testkit.TempFile(t, "old.pem", slices.Concat(old, testkit.CRL(t)))
	issuer := ": 3 serials, issuer CN=Oracle Root CA,O=Oracle Test,C=DE, last update 2020-01-01\n"
	_, out := check(t, `listen = ["127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, crt(), "clientcert = true", fmt.Sprintf("cacrt = %q\ncacrl = %q\ncrlcheck = \"leaf\"\ncrlfiles = [%[2]q]", testkit.AbsPKI("root.crt"), file))
	require.Contains(t, out, "    cacrl 1        "+file+issuer)
	require.Contains(t, out, "    cacrl 2        "+file+strings.Replace(issuer, "3", "0", 1))
	require.Contains(t, out, "    crlfiles 1     "+file+issuer)
	require.NotContains(t, out, "cannot be displayed")
	require.NotContains(t, out, "cacrl: has no entries")
}
