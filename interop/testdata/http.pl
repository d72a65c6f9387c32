#!/usr/bin/perl
# A web server on POE::Filter::SSL, the original, that answers one request on a port that it prints, and ends without close_notify, as every program on it does.
#
#   http.pl CRT KEY LENGTH CUT
#
# The body has LENGTH bytes, and its end is that of the connection. CUT is what follows the last record, in plain text: 170303 in hexadecimal begins another one.
use strict; use warnings;
use IO::Socket::INET;
use POE; POE::Kernel->run();    # no sessions; only keeps POE from a warning
use POE::Filter::SSL;

my ($crt, $key, $length, $cut) = @ARGV;
$| = 1;
alarm 60;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!";
print $listener->sockport, "\n";
my $socket = $listener->accept or die "accept: $!";
my $filter = POE::Filter::SSL->new(crt => $crt, key => $key);
my $request = '';
while ($request !~ /\r\n\r\n/ and sysread $socket, my $input, 65536) {
   $filter->get_one_start([$input]);
   while (my @records = @{ $filter->get_one() }) {
      for my $item (@records) {
         if (POE::Filter::SSL::checkForDoSendback($item)) { transmit(@{ $filter->put([$item]) }) }
         else { $request .= $item }
      }
   }
}
transmit(@{ $filter->put([ "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" . 'x' x $length ]) }, pack('H*', $cut));

sub transmit {
   for my $piece (@_) {
      for (my $at = 0; $at < length $piece;) { $at += syswrite($socket, $piece, length($piece) - $at, $at) // die "write: $!" }
   }
}
