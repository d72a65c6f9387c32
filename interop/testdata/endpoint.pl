#!/usr/bin/perl
# One POE::Filter::SSL, the original, as a live TLS peer on loopback; driven as the wheel does that the module patches.
#
#   endpoint.pl --listen SPEC          takes one connection, on a port that it prints
#   endpoint.pl --connect PORT SPEC
#
# SPEC is JSON: {"new": {options of POE::Filter::SSL->new}, "say": [[LEN, BYTE], ...], "chunk": N, "crl": FILE, "timeout": S}
# What is in "say" is sent after the handshake, one put() each: LEN times the byte with this number. Input is cut into deliveries of
# "chunk" bytes, if that is not 0. Events are JSON lines on stdout: {"ev":"listen","port":N}, {"ev":"warn"}, {"ev":"end", ...} after
# the peer's end of file.
use strict; use warnings;
use JSON::PP (); use Digest::SHA; use IO::Socket::INET;
use POE; POE::Kernel->run();    # no sessions; only keeps POE from a warning
use POE::Filter::SSL; use Net::SSLeay;

my ($mode, $port) = (shift @ARGV, 0);
$port = shift @ARGV if $mode eq '--connect';
my $spec = JSON::PP->new->utf8->decode(shift @ARGV);
my $json = JSON::PP->new->canonical->ascii;
$| = 1;
sub event { print $json->encode({ ev => @_ }), "\n" }
sub bool  { $_[0] ? JSON::PP::true : JSON::PP::false }
local $SIG{__WARN__} = sub { event('warn', text => "@_") };
alarm($spec->{timeout} || 30);

my $socket;
if ($mode eq '--listen') {
   my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!";
   event('listen', port => $listener->sockport);
   $socket = $listener->accept or die "accept: $!";
}
else { $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "connect: $!" }
binmode $socket;

my (@errors, $done);
my $filter = POE::Filter::SSL->new(%{ $spec->{new} }, errorhandler => sub { push @errors, $_[1]{msg} });
my $rx = Digest::SHA->new(256); my ($bytes, $inputs) = (0, 0);
transmit($filter->put([])) if $spec->{new}{client};    # a client that is not asked to put never starts

while (my $n = sysread $socket, my $input, 65536) {
   my $size = $spec->{chunk} || $n;
   for (my $at = 0; $at < $n; $at += $size) { deliver(substr $input, $at, $size) }
}
report();

sub deliver {    # POE::Wheel::ReadWrite on input: until get_one has nothing, answering the filter's wish to send
   $filter->get_one_start([ $_[0] ]);
   while (1) {
      my $records = $filter->get_one(); last unless @$records;
      for my $item (@$records) {
         if (POE::Filter::SSL::checkForDoSendback($item)) { transmit($filter->put([$item])) }
         else { $rx->add($item); $bytes += length $item; $inputs++ }
      }
   }
   if (!$done && $filter->handshakeDone(ignorebuf => 1) && $filter->getCipher ne '(NONE)') {
      $done = 1;
      transmit($filter->put([ chr($_->[1]) x $_->[0] ])) for @{ $spec->{say} || [] };
   }
}
sub transmit {
   for my $piece (@{ $_[0] }) {
      for (my $at = 0; $at < length $piece;) { $at += syswrite($socket, $piece, length($piece) - $at, $at) // die "write: $!" }
   }
}
sub report {
   event('end', done => bool($done), cipher => $filter->getCipher, version => Net::SSLeay::get_version($filter->{ssl}),
      exists => bool($filter->clientCertExists), valid => bool($filter->clientCertValid),
      ids => [ map { { subject => $_->[0], issuer => $_->[1], serial => $filter->hexdump($_->[2]), err => $_->[3] + 0 } }
               grep { defined } $filter->clientCertIds ],
      not_on_crl => bool($spec->{crl} && $filter->clientCertNotOnCRL($spec->{crl})),
      bytes => $bytes, inputs => $inputs, sha256 => $rx->hexdigest, errors => \@errors);
}
