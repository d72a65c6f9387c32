package examples_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// writeFile writes a file into dir and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// vsftpd starts a server for the files in root, for everybody. It refuses a data
// connection that does not resume the session of the control connection.
func vsftpd(t *testing.T, root, crt, key string) (port string) {
	port = peers.FreePort(t)
	conf := writeFile(t, t.TempDir(), "vsftpd.conf", fmt.Sprintf(`listen=YES
listen_address=127.0.0.1
listen_port=%s
background=NO
run_as_launching_user=YES
seccomp_sandbox=NO
secure_chroot_dir=%s
anonymous_enable=YES
local_enable=NO
no_anon_password=YES
ftp_username=nobody
anon_root=%s
pasv_address=127.0.0.1
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file=%s
rsa_private_key_file=%s
`, port, t.TempDir(), root, crt, key))
	server := peers.Start(t, peers.FindDaemon(t, "vsftpd", "vsftpd"), conf)
	server.AwaitPort(port)
	return port
}

// proftpd starts a server for the files in root, for the user "u" with the password
// "secret".
func proftpd(t *testing.T, root, crt, key string) (port string) {
	port = peers.FreePort(t)
	path, dir := peers.FindDaemon(t, "proftpd-mod-crypto", "proftpd"), t.TempDir()
	hash, status := peers.Run(t, peers.Find(t, "openssl", "openssl"), "passwd", "-1", "secret")
	require.Zero(t, status, hash)
	users := writeFile(t, dir, "users", fmt.Sprintf("u:%s:65534:65534::%s:/bin/sh\n", strings.TrimSpace(hash), root))
	conf := writeFile(t, dir, "proftpd.conf", fmt.Sprintf(`LoadModule mod_tls.c
ServerType standalone
DefaultServer on
DefaultAddress 127.0.0.1
UseIPv6 off
UseReverseDNS off
Port %[1]s
PidFile %[2]s/pid
ScoreboardFile %[2]s/score
SystemLog %[2]s/log
DelayTable none
WtmpLog off
TransferLog none
User nobody
Group nogroup
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile %[3]s
TLSEngine on
TLSLog %[2]s/tls.log
TLSProtocol TLSv1.2 TLSv1.3
TLSRequired on
TLSVerifyClient off
TLSRSACertificateFile %[4]s
TLSRSACertificateKeyFile %[5]s
`, port, dir, users, crt, key))
	server := peers.Start(t, path, "-n", "-c", conf)
	server.AwaitPort(port)
	return port
}

// A data connection resumes the session of the control connection. Without that, both
// servers refuse it.
func TestFTPSClient(t *testing.T) {
	if os.Getuid() != 0 {
		peers.SkipUnless(t, "root", "root", "an FTP server changes its user")
	}
	t.Setenv("FTP_PASSWORD", "secret")
	for name, start := range map[string]func(t *testing.T, root, crt, key string) string{"vsftpd": vsftpd, "proftpd": proftpd} {
		t.Run(name, func(t *testing.T) {
			file, root := pki(t), t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(root, "one.txt"), []byte("hello over FTPS\n"), 0o644))
			for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				require.NoError(t, os.Chmod(dir, 0o755)) // the server runs as nobody
			}
			addr := "localhost:" + start(t, root, file("server.crt"), file("server.key"))
			user := map[string]string{"vsftpd": "anonymous", "proftpd": "u"}[name]
			for version, flag := range map[string]string{"TLSv1.2": "-tls1_2=true", "TLSv1.3": "-tls1_2=false"} {
				run := func(args ...string) (string, int) {
					return peers.Run(t, filepath.Join(programs, "ftpsclient"), append([]string{"-connect", addr, "-cacrt", file("ca.crt"), "-user", user, flag}, args...)...)
				}
				out, status := run()
				require.Zero(t, status, out)
				require.Contains(t, out, "one.txt")
				require.Contains(t, out, "data connection: "+version+", resumed: true")

				out, status = run("one.txt", "one.txt", "one.txt")
				require.Zero(t, status, out)
				require.Equal(t, 3, strings.Count(out, "hello over FTPS\n"))
				require.Equal(t, 3, strings.Count(out, "data connection: "+version+", resumed: true"))

				out, status = run("-fresh", "one.txt")
				require.Equal(t, 1, status, out)
				require.Contains(t, out, "data connection: "+version+", resumed: false")
				require.Contains(t, out, map[string]string{"vsftpd": "522", "proftpd": "425"}[name])

				out, status = run("no-such.txt")
				require.Equal(t, 1, status, out)
				require.Contains(t, out, "550")
			}
		})
	}
}
