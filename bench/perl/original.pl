#!/usr/bin/perl
# POE::Filter::SSL, the original, as a subject of the benchmark: two filters in one process, driven as POE's wheel drives them.
#
#   original.pl FOLDER     the folder with the test certificates
#
# Questions and answers are lines of JSON, as in internal/subject. Figures are seconds of processor time of the process.
use strict; use warnings;
use JSON::PP ();
use Time::HiRes qw(clock_gettime CLOCK_PROCESS_CPUTIME_ID);
use POE; POE::Kernel->run();    # no sessions; only keeps POE from a warning
use POE::Filter::SSL; use Net::SSLeay;

my $pki = shift @ARGV;
my $json = JSON::PP->new->canonical->ascii;
$| = 1;

sub server_options {
   my ($cert) = @_;
   my $name = $cert eq 'rsa' ? 'server' : 'server-ec';
   return (crt => "$pki/$name.crt", key => "$pki/$name.key", $cert eq 'cert' ? (clientcert => 1, blockbadclientcert => 1, cacrt => "$pki/root.crt") : ());
}
sub client_options {    # the original has no way to refuse a server, so its client verifies nothing
   my ($cert) = @_;
   return (client => 1, sni => 'localhost', $cert eq 'cert' ? (crt => "$pki/client-ec.crt", key => "$pki/client-ec.key") : ());
}

# deliver gives wire to a filter: plaintext, and what it wants to send.
sub deliver {
   my ($filter, $wire) = @_;
   my ($plain, $out) = ('', '');
   $filter->get_one_start([$wire]);
   while (1) {
      my $items = $filter->get_one(); last unless @$items;
      for my $item (@$items) {
         if (POE::Filter::SSL::checkForDoSendback($item)) { $out .= $_ for @{ $filter->put([$item]) } }
         else { $plain .= $item }
      }
   }
   return ($plain, $out);
}
sub shake {
   my ($cert) = @_;
   my $server = POE::Filter::SSL->new(server_options($cert));
   my $client = POE::Filter::SSL->new(client_options($cert));
   my $up = join '', @{ $client->put([]) };
   for (1 .. 10) {
      my $down;
      (undef, $down) = deliver($server, $up);
      (undef, $up) = deliver($client, $down);
      last if $up eq '' && $server->handshakeDone && $client->handshakeDone;
   }
   die "the handshake is not done\n" if $server->getCipher eq '(NONE)' || $client->getCipher eq '(NONE)';
   die "the certificate is not valid\n" if $cert eq 'cert' && !$server->clientCertValid;
   return ($client, $server);
}
sub pass {
   my ($client, $server, $messages, $length) = @_;
   my ($plain) = deliver($server, join '', @{ $client->put($messages) });
   die length($plain) . " bytes of $length arrived\n" if length $plain != $length;
}
sub timed {
   my ($n, $work) = @_;
   $work->() for 1 .. ($n + 3) / 4;    # warm, as warm in subject.go
   my $start = clock_gettime(CLOCK_PROCESS_CPUTIME_ID);
   $work->() for 1 .. $n;
   my $spent = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - $start;
   return [$spent];
}
sub resident {
   open my $f, '<', '/proc/self/statm' or die $!;
   return (split ' ', <$f>)[1] * 4096;
}
sub messages {
   my ($size, $burst, $n) = @_;
   my ($client, $server) = shake('ec');
   my $list = [ ('x' x $size) x $burst ];
   pass($client, $server, $list, $size * $burst);    # what grows has grown
   return timed($n, sub { pass($client, $server, $list, $size * $burst) });
}

my %kinds = (
   handshake => sub { my ($arg, $n) = @_; timed($n, sub { shake($arg) }) },
   message   => sub { my ($arg, $n) = @_; messages($arg, 1, $n) },
   burst     => sub { my ($arg, $n) = @_; my $burst = int(12 * 1024 * 1024 / $arg); messages($arg, $burst < 100 ? $burst : 100, $n) },
   new       => sub { my ($arg, $n) = @_; timed($n, sub { POE::Filter::SSL->new(server_options('ec')) }) },
   'crl lookup' => sub {
      my ($arg, $n) = @_;
      my ($client, $server) = shake('cert');
      return timed($n, sub { $server->clientCertNotOnCRL($arg) or die "on the CRL\n" });
   },
   memory => sub {
      my ($arg, $n) = @_;
      my @held; shake('ec') for 1 .. 20;
      my $before = resident();
      for (1 .. $n) {
         my ($client, $server) = shake('ec');
         for (my $left = $arg; $left > 0; $left -= 65536) {
            pass($client, $server, [ 'x' x 65536 ], 65536);
            pass($server, $client, [ 'x' x 65536 ], 65536);
         }
         push @held, $server;
      }
      my $each = (resident() - $before) / $n;
      return [ $each, 0, 0, $each ];
   },
);

sub version { "$POE::Filter::SSL::VERSION, Perl " . sprintf('%vd', $^V) . ', ' . Net::SSLeay::SSLeay_version(0) }
print $json->encode({ Version => version() }), "\n";
while (my $line = <STDIN>) {
   my $q = $json->decode($line);
   my $values = eval {
      my $work = $kinds{ $q->{Kind} } or die "CANNOT\n";
      $work->($q->{Arg}, $q->{N});
   };
   my $error = $@;
   print $json->encode({ Values => $values, Error => $error, Cannot => $error eq "CANNOT\n" ? JSON::PP::true : JSON::PP::false }), "\n";
}
