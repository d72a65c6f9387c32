#!/usr/bin/perl
# Net::SSLeay as a TLS peer of the tests: one line of standard input is one connection, as script_test.go describes.
use strict; use warnings;
use Net::SSLeay (); use IO::Socket::INET; use Digest::SHA 'sha256_hex';

$| = 1;
$SIG{PIPE} = 'IGNORE';
Net::SSLeay::initialize();
print "version=$Net::SSLeay::VERSION, ", Net::SSLeay::SSLeay_version() =~ /^(\S+ \S+)/, "\n";
while (my $line = <STDIN>) {
   chomp $line;
   my %call = map { split /=/, $_, 2 } split /\t/, $line;
   my %said;
   alarm 30;
   eval { $call{role} eq 'client' ? client(\%call, \%said) : server(\%call, \%said); 1 } or ($said{error} = $@) =~ s/\s+/ /g;
   alarm 0;
   print join("\t", 'result', map { "$_=$said{$_}" } sort keys %said), "\n";
}

sub check { my ($ok, $what) = @_; $ok > 0 or die "$what: " . (Net::SSLeay::ERR_error_string(Net::SSLeay::ERR_get_error()) || $!) . "\n" }

sub context {
   my ($call) = @_;
   my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_method());
   my $version = $call->{version} eq 'TLSv1.2' ? 0x0303 : 0x0304;
   check(Net::SSLeay::CTX_set_min_proto_version($ctx, $version) && Net::SSLeay::CTX_set_max_proto_version($ctx, $version), 'version');
   Net::SSLeay::CTX_set_mode($ctx, Net::SSLeay::MODE_AUTO_RETRY());
   check(Net::SSLeay::CTX_load_verify_locations($ctx, $call->{ca}, ''), 'CA');
   if ($call->{crt}) {
      check(Net::SSLeay::CTX_use_certificate_file($ctx, $call->{crt}, Net::SSLeay::FILETYPE_PEM()), 'certificate');
      check(Net::SSLeay::CTX_use_PrivateKey_file($ctx, $call->{key}, Net::SSLeay::FILETYPE_PEM()), 'key');
   }
   if ($call->{crl}) {
      my $store = Net::SSLeay::CTX_get_cert_store($ctx);
      my $bio = Net::SSLeay::BIO_new_file($call->{crl}, 'r');
      my $crl = Net::SSLeay::PEM_read_bio_X509_CRL($bio);
      check(Net::SSLeay::X509_STORE_add_crl($store, $crl), 'CRL');
      Net::SSLeay::X509_STORE_set_flags($store, Net::SSLeay::X509_V_FLAG_CRL_CHECK());
   }
   if ($call->{role} eq 'client') {
      Net::SSLeay::CTX_set_verify($ctx, Net::SSLeay::VERIFY_PEER(), undef);
      Net::SSLeay::CTX_set_alpn_protos($ctx, ['interop']);
   }
   else {
      Net::SSLeay::CTX_set_verify($ctx, $call->{ask} ? Net::SSLeay::VERIFY_PEER() | Net::SSLeay::VERIFY_FAIL_IF_NO_PEER_CERT() : 0, undef);
      Net::SSLeay::CTX_set_alpn_select_cb($ctx, ['interop']);
   }
   return $ctx;
}

sub client {
   my ($call, $said) = @_;
   my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $call->{port}) or die "connect: $!\n";
   my ($ctx, $ssl) = start($call, $socket);
   Net::SSLeay::set_tlsext_host_name($ssl, 'localhost');
   check(Net::SSLeay::connect($ssl), 'connect');
   describe($ssl, $said);
   send_all($ssl, $call);
   receive($ssl, $call, $said);
   Net::SSLeay::shutdown($ssl);
   finish($ctx, $ssl, $said);
}

sub server {
   my ($call, $said) = @_;
   my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!\n";
   print 'port=', $listener->sockport, "\n";
   my $socket = $listener->accept or die "accept: $!\n";
   my ($ctx, $ssl) = start($call, $socket);
   check(Net::SSLeay::accept($ssl), 'accept');
   describe($ssl, $said);
   receive($ssl, $call, $said);
   send_all($ssl, $call);
   finish($ctx, $ssl, $said);
}

sub start {
   my ($call, $socket) = @_;
   my $ctx = context($call);
   my $ssl = Net::SSLeay::new($ctx);
   Net::SSLeay::set_fd($ssl, fileno $socket);
   return ($ctx, $ssl);
}

sub describe {
   my ($ssl, $said) = @_;
   $said->{version} = Net::SSLeay::get_version($ssl);
   $said->{cipher} = Net::SSLeay::get_cipher($ssl);
   my $cert = Net::SSLeay::get_peer_certificate($ssl) or return;
   $said->{cert} = Net::SSLeay::X509_NAME_oneline(Net::SSLeay::X509_get_subject_name($cert));
}

sub send_all {
   my ($ssl, $call) = @_;
   open my $file, '<:raw', $call->{send} or die "$call->{send}: $!\n";
   my $data = do { local $/; <$file> };
   check(Net::SSLeay::ssl_write_all($ssl, \$data), 'write');
}

sub receive {
   my ($ssl, $call, $said) = @_;
   my $got = '';
   while (length $got < $call->{want}) {
      my ($part, $n) = Net::SSLeay::read($ssl);
      check($n, 'read');
      $got .= $part;
   }
   $said->{sha256} = sha256_hex($got);
}

# finish waits for the other side's close_notify.
sub finish {
   my ($ctx, $ssl, $said) = @_;
   my ($part, $n) = Net::SSLeay::read($ssl);
   my $why = Net::SSLeay::get_error($ssl, $n);
   $said->{end} = 'orderly' if $why == Net::SSLeay::ERROR_ZERO_RETURN();
   Net::SSLeay::shutdown($ssl);
   Net::SSLeay::free($ssl);
   Net::SSLeay::CTX_free($ctx);
}
