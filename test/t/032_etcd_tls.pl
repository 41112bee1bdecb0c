# etcd over TLS, with certificates on both sides and a user: a cluster lives, fails
# over and switches over.  What is wrong with a certificate is said in so many words,
# in the log once and in elector_status, and is mended without a restart.
# Certificates are replaced while the leader leads.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, etcd => 3, ttl => '10s', tls => 1, auth => 1)->build;
my $pki     = $cluster->pki;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $name    = quotemeta $pki->cert('client');

# As ever.
$cluster->psql('n1', q{SELECT elector_switchover('n2')}, timeout => 30);
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'a switchover');
$cluster->wait_for_follower($_) foreach qw(n1 n3);
$cluster->kill_postmaster('n2');
my $leader = $cluster->wait_for_leader(exclude => 'n2');
ok($leader, "a failover: $leader leads");
$cluster->wait_for_no_process('n2');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->remember('n2');

# --- settings ---

$pki->make_ca('stranger');
$pki->issue('strange', ca => 'stranger', subject => '/O=elector', usage => 'clientAuth');
$pki->issue('expired', ca => 'ca', subject => '/O=elector', usage => 'clientAuth', until => -3600);
$pki->issue('named', ca => 'ca', usage => 'clientAuth');
my $base = $cluster->base;
write_file("$base/nonsense", "nonsense\n");
$cluster->must_run_as_user('client', 'openssl', 'ec', '-aes256', '-passout', 'pass:x',
	'-in', $pki->key('client'), '-out', "$base/pki/protected.key");
$cluster->must_run_as_user('client', 'install', '-m', '0644', $pki->key('client'), "$base/pki/readable.key");

foreach my $case (
	[ 'ca_file',   "$base/nowhere",            qr/No such file/,          'a CA file that is not there' ],
	[ 'ca_file',   "$base/nonsense",           qr/no PEM certificate/,    'a CA file without a certificate' ],
	[ 'ca_file',   $base,                      qr/not a regular file/,    'a directory' ],
	[ 'cert_file', $pki->key('client'),        qr/no PEM certificate/,    'a key for a certificate' ],
	[ 'key_file',  $pki->cert('client'),       qr/no PEM private key|others may read/, 'a certificate for a key' ],
	[ 'key_file',  "$base/pki/protected.key",  qr/passphrase/,            'a key with a passphrase' ],
	[ 'key_file',  "$base/pki/readable.key",   qr/others may read.*0600/, 'a key that others may read' ])
{
	my ($setting, $value, $pattern, $what) = @$case;
	my $result = $cluster->try_psql($leader, "ALTER SYSTEM SET pg_elector.etcd_$setting = '$value'");
	ok(!$result->{ok}, "ALTER SYSTEM refuses $what");
	like($result->{err}, $pattern, 'and says why');
}

# --- what is wrong, at a start and after a reload ---

my $follower = (grep { $_ ne $leader } $cluster->nodes)[-1];
my %lines = map { $_ => "pg_elector.etcd_$_" } qw(ca_file cert_file key_file);

sub node_lines
{
	my (%values) = @_;
	$cluster->set_line($follower, $lines{$_}, $values{$_}) foreach keys %values;
	return;
}

sub good_lines { return (ca_file => $pki->cert('ca'), cert_file => $pki->cert('client'), key_file => $pki->key('client')) }

# The follower starts with what is wrong, says so, and follows when it is right.
sub starts_with
{
	my ($what, $pattern, $hint, %values) = @_;
	my $offset = $cluster->log_offset($follower);

	$cluster->stop($follower);
	node_lines(good_lines(), %values);
	$cluster->start($follower);
	$cluster->wait_log($follower, qr/WARNING:  etcd at "https:[^"]*" cannot be used: $pattern/, $offset);
	pass("$what: the log says it");
	like($cluster->log_since($follower, $offset), qr/HINT:  $hint/, "$what: and what to do");
	$cluster->wait_for_status($follower, $follower, { state => 'no etcd', detail => $pattern });
	pass("$what: elector_status says it");
	$cluster->wait_log($follower, qr/LOG:  cannot use etcd: https:/, $offset);

	node_lines(good_lines());
	$cluster->run_on($follower, {}, 'pg_ctl', '-D', $cluster->data($follower), 'reload');
	$cluster->wait_for_follower($follower);
	my @said = $cluster->log_since($follower, $offset) =~ /WARNING:  etcd at "https:\S+" cannot be used/g;
	cmp_ok(scalar @said, '<=', 3, "$what: one line for each endpoint");
	pass("$what: corrected, it follows without a restart");
	return;
}

starts_with('a CA that is not etcd\'s', qr/the server's certificate is not signed by a CA in file "\Q@{[$pki->cert('stranger')]}\E"/,
	qr/Put the CA/, ca_file => $pki->cert('stranger'));
starts_with('no client certificate', qr/the server wants a client certificate/, qr/Set pg_elector.etcd_cert_file/,
	cert_file => undef, key_file => undef);
starts_with('a client certificate of another CA', qr/the server does not (?:accept|know the CA of) the client certificate in file "\Q@{[$pki->cert('strange')]}\E"/,
	qr/It must be signed by a CA/, cert_file => $pki->cert('strange'), key_file => $pki->key('strange'));
starts_with('a client certificate with a common name', qr/etcd does not accept a client certificate with a common name/,
	qr/Where etcd has users/, cert_file => $pki->cert('named'), key_file => $pki->key('named'));
{
	my $offset = $cluster->log_offset($follower);
	starts_with('an expired client certificate', qr/the server (?:does not accept the client certificate|finds the client certificate in file "[^"]*" expired)/,
		qr/It must be signed by a CA/, cert_file => $pki->cert('expired'), key_file => $pki->key('expired'));
	like($cluster->log_since($follower, $offset), qr/the certificate in file "\Q@{[$pki->cert('expired')]}\E" has expired/,
		'it is said to have expired');
}

# The certificates of etcd; it reads them anew for each connection.
my ($member) = $cluster->members;
$cluster->set_line($follower, 'pg_elector.etcd', $cluster->etcd_url($member));
foreach my $case (
	[ 'for another name', { names => ['IP:10.1.2.3'] }, qr/the server's certificate is for another name/ ],
	[ 'expired',          { until => -3600 },           qr/the server's certificate has expired/ ],
	[ 'not valid yet',    { from => 3600 },             qr/the server's certificate is not valid yet/ ])
{
	my ($what, $options, $pattern) = @$case;
	my $offset = $cluster->log_offset($follower);

	$cluster->issue_member($member, %$options);
	$cluster->stop($follower);
	$cluster->start($follower);
	$cluster->wait_log($follower, qr/WARNING:  etcd at "https:[^"]*" cannot be used: $pattern/, $offset);
	pass("etcd's certificate is $what: the log says it");
	$cluster->wait_for_status($follower, $follower, { state => 'no etcd', detail => $pattern });
	pass("etcd's certificate is $what: elector_status says it");
	$cluster->issue_member($member);
	$cluster->wait_for_follower($follower);
	like($cluster->log_since($follower, $offset), qr/LOG:  etcd at "https:[^"]*" can be used/, 'corrected, it follows');
}
$cluster->stop($follower);
$cluster->set_line($follower, 'pg_elector.etcd', $cluster->endpoints);
$cluster->start($follower);
$cluster->wait_for_follower($follower);
$cluster->remember($follower);

# A start is refused when settings do not go together.
$cluster->stop($follower);
foreach my $case (
	[ { key_file => undef }, qr/FATAL.*"pg_elector.etcd_key_file" is not set.*HINT:  A certificate needs its key/s, 'a certificate without a key' ],
	[ { key_file => $pki->key('strange') }, qr/FATAL.*do not belong together/, 'a certificate and another key' ],
	[ { ca_file => "$base/nowhere" }, qr/No such file.*FATAL.*invalid value for parameter "pg_elector.etcd_ca_file"/s, 'a CA file that is not there' ])
{
	my ($values, $pattern, $what) = @$case;
	my $offset = $cluster->log_offset($follower);

	node_lines(good_lines(), %$values);
	ok(!$cluster->start($follower, may_fail => 1)->{ok}, "a start is refused with $what");
	like($cluster->log_since($follower, $offset), $pattern, 'and says why');
}
node_lines(good_lines());
$cluster->start($follower);
$cluster->wait_for_follower($follower);
$cluster->remember($follower);

# --- certificates are replaced while the leader leads ---


sub unnoticed
{
	my ($what, $since) = @_;
	my @refused = grep { $_->{node} eq $leader && $_->{at} >= $since } $probers->errors;
	is(scalar @refused, 0, "$what: not one probe was refused");
	return;
}

my %offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
my $term   = $cluster->term($leader);
my $since  = now_us();
$pki->issue('client', ca => 'ca', subject => '/O=elector', usage => 'clientAuth');
$cluster->wait_log($_, qr/LOG:  the certificates for etcd were read anew/, $offset{$_}) foreach $cluster->nodes;
pass('a new certificate is read by all nodes');
unnoticed('a new certificate', $since);

# Key and certificate come one after the other.
$since = now_us();
%offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
$pki->issue('next', ca => 'ca', subject => '/O=elector', usage => 'clientAuth');
rename $pki->key('next'), $pki->key('client') or die;
$cluster->wait_log($_, qr/WARNING:  the certificate in file "$name" and the key in file "[^"]*" do not belong together/, $offset{$_})
  foreach $cluster->nodes;
$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'more than the TTL to pass');
unnoticed('the key before the certificate', $since);
rename $pki->cert('next'), $pki->cert('client') or die;
$cluster->wait_log($_, qr/LOG:  the certificates for etcd were read anew/, $offset{$_}) foreach $cluster->nodes;
pass('then the certificate');

# All connections are new: so is the certificate that they are made with.
$since = now_us();
$cluster->roll_etcd;
$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'more than the TTL to pass');
is($cluster->term($leader), $term, 'the leader stays when all its connections are new');

# One that etcd does not take shows with the next connection; a good one mends it.
%offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
$pki->copy('strange', 'client');
$cluster->wait_log($_, qr/LOG:  the certificates for etcd were read anew/, $offset{$_}) foreach $cluster->nodes;
$cluster->roll_etcd;
$cluster->wait_log($_, qr/WARNING:  etcd at "https:[^"]*" cannot be used: the server does not \S+ .*the client certificate in file "$name"/, $offset{$_})
  foreach $cluster->nodes;
pass('a certificate of another CA: every node says so');
$pki->issue('client', ca => 'ca', subject => '/O=elector', usage => 'clientAuth');
$leader = $cluster->wait_for_leader(timeout => 30);
pass("a good one: $leader leads");

foreach my $node ($cluster->nodes)
{
	unlike(read_file($cluster->log($node)), qr/secret/, "no password in the log of $node");
	unlike(read_file($cluster->log($node)), qr/PRIVATE KEY/, "no key in the log of $node");
}
$cluster->check_end('TLS', $writer, $probers, losses => 1);

done_testing();
