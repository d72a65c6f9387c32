# A TLS 1.2 server that asks for a renegotiation, says "bye" and closes without
# waiting for the answer: renegotiate-and-close.pl CERTIFICATE KEY
use strict;
use warnings;
use Net::SSLeay;
use Socket;

$| = 1;
my ($cert, $key) = @ARGV;
Net::SSLeay::initialize();
my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLSv1_2_method());
Net::SSLeay::set_cert_and_key($ctx, $cert, $key) or die 'certificate or key';
socket(my $listener, PF_INET, SOCK_STREAM, 0) or die $!;
bind($listener, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
listen($listener, 1) or die $!;
print 'ACCEPT 127.0.0.1:', (sockaddr_in(getsockname($listener)))[0], "\n";
accept(my $conn, $listener) or die $!;
my $ssl = Net::SSLeay::new($ctx);
Net::SSLeay::set_fd($ssl, fileno($conn));
Net::SSLeay::accept($ssl) == 1 or die 'handshake';
Net::SSLeay::renegotiate($ssl);
Net::SSLeay::do_handshake($ssl);
Net::SSLeay::write($ssl, "bye\n");
Net::SSLeay::shutdown($ssl);
shutdown($conn, 1);
1 while sysread($conn, my $rest, 4096);
