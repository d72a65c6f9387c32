#!/usr/bin/perl
# POE::Filter::SSL, the original, as a peer that sends SIZE bytes after the handshake and closes. It never sends a close_notify.
#
#   original.pl listen SIZE CRT KEY    takes one connection, on a port that it prints
#   original.pl connect SIZE PORT
use strict; use warnings;
use IO::Socket::INET;
use POE; POE::Kernel->run();    # no sessions; only keeps POE from a warning
use POE::Filter::SSL;

my ($mode, $size, @rest) = @ARGV;
$| = 1;
alarm 30;
my ($socket, %options);
if ($mode eq 'listen') {
   %options = (crt => $rest[0], key => $rest[1]);
   my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!";
   print 'port ', $listener->sockport, "\n";
   $socket = $listener->accept or die "accept: $!";
}
else {
   %options = (client => 1);
   $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $rest[0]) or die "connect: $!";
}
binmode $socket;
sub transmit {
   for my $out (@{ $_[0] }) {
      for (my $at = 0; $at < length $out;) { $at += syswrite($socket, $out, length($out) - $at, $at) || die "write: $!" }
   }
}
my $filter = POE::Filter::SSL->new(%options);
transmit($filter->put([])) if $options{client};
until ($filter->handshakeDone(ignorebuf => 1) && $filter->getCipher ne '(NONE)') {
   sysread $socket, my $input, 65536 or die "the peer ended in the handshake";
   $filter->get_one_start([$input]);
   while (1) {
      my $records = $filter->get_one(); last unless @$records;
      for (@$records) { transmit($filter->put([$_])) if POE::Filter::SSL::checkForDoSendback($_) }
   }
}
for (my $left = $size; $left > 0; $left -= 16000) { transmit($filter->put(['x' x ($left < 16000 ? $left : 16000)])) }
close $socket;
print "sent\n";
