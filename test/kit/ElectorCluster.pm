# ElectorCluster.pm
#
# A cluster for tests: PostgreSQL servers that preload pg_elector, an etcd of
# one or more members, and the faults that happen to them.
#
#   my $cluster = ElectorCluster->new(nodes => 3)->build;
#   my $writer  = $cluster->start_writer;
#   $cluster->kill_postmaster('n1');
#   my $new = $cluster->wait_for_leader(exclude => 'n1');
#   $writer->stop;
#   $cluster->check_rows($writer, leader => $new);
#
# Needs root.  The servers run as another user (ELECTOR_TEST_USER, default
# postgres), each in a network namespace of its own (ElectorNetwork).  Clients
# and what they saw are in ElectorClients.
#
# Two ways to reach a server: over the network, from the namespace 'client',
# where cuts are felt; or over its Unix socket, as from the same host, where
# they are not.  The kit looks at servers over the socket.
#
# Every wait is for a state, has a bound, and shows the logs when the bound has
# passed.  Nothing here tries again until it works.
#
# The trap: everything must be gone at the end, also after die or a signal.
# teardown() is called from DESTROY and END; the files stay when the test has
# failed.

package ElectorCluster;

use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorClients;
use ElectorNetwork;
use ElectorPki;
use ElectorProcess qw(now now_us run_command must_run spawn process_alive wait_gone
  kill_and_wait read_file write_file);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Spec;
use File::Temp qw(tempdir);
use JSON::PP qw(decode_json);
use Scalar::Util qw(weaken);
use Test::More ();
use Time::HiRes qw(sleep);

our @EXPORT = qw(now now_us read_file write_file poll_until);

my $owner = $$;
my @clusters;       # weak references
my @directories;    # removed in the end, if the test passes

my $kit_directory = dirname(abs_path(__FILE__));

$SIG{$_} = sub { die "ended by a signal\n" } foreach qw(INT TERM HUP);

# Only here is it known whether the test has passed: die destroys the objects
# first, and then comes END with its status.
END
{
	if ($$ == $owner)
	{
		my $status = $?;
		$SIG{$_} = 'IGNORE' foreach qw(INT TERM HUP);
		foreach my $cluster (grep { defined } @clusters)
		{
			eval { $cluster->teardown; 1 } or Test::More::diag("teardown: $@");
		}
		if ($status != 0 || !Test::More->builder->is_passing || $ENV{ELECTOR_TEST_KEEP})
		{
			Test::More::diag("files are kept in $_") foreach @directories;
		}
		else
		{
			remove_tree(@directories);
		}
		$? = $status;
	}
}

sub DESTROY { local ($?, $@); $_[0]->teardown if $$ == $owner }

#--------------------------------------------------------------------------
# Making and ending
#--------------------------------------------------------------------------

# Options:
#   nodes     how many; they are called n1, n2, ...                 (3)
#   etcd      how many members; e1, e2, ...                         (1)
#   tls       etcd wants certificates of clients; see pki()
#   auth      etcd has users: root, and elector with a role for the cluster's prefix
#   ttl       pg_elector.lease_ttl                                  (2s)
#   settings  lines of postgresql.conf for every node, name => value
#   peer      role of pg_elector.conninfo, which create_schema makes (postgres)
#   reserve   a node that is added has its WAL kept from its base backup on
#   plain     without pg_elector: replication by hand (for comparisons)
#   etcd_in_memory  etcd's data are in /dev/shm: where much is written, its disk would
#                   be the slowest part
sub new
{
	my ($class, %opts) = @_;
	die "the tests need root, for network namespaces\n" if $> != 0;

	my $user = $ENV{ELECTOR_TEST_USER} // 'postgres';
	my @passwd = getpwnam($user) or die "there is no user $user (ELECTOR_TEST_USER)\n";
	my $top = $ENV{ELECTOR_TEST_TMP} // 'tmp_check';
	make_path($top);
	$top = abs_path($top);

	# The servers' user has to get there, which a checkout in somebody's home
	# may not allow.
	my $closed = 0;
	for (my $path = $top; $path ne '/'; $path = dirname($path))
	{
		$closed = 1 unless (stat $path)[2] & 0001;
	}
	$top = File::Spec->tmpdir if $closed;

	my ($test) = (split m{/}, $0)[-1] =~ /^([\w-]+)/;
	my $base = tempdir("$test-XXXXXX", DIR => $top);
	push @directories, $base;
	chown $passwd[2], $passwd[3], $base;
	chmod 0755, $base;

	# A Unix socket's path has to be short.
	my $sockets = tempdir('elector-XXXXXX', TMPDIR => 1);
	chmod 0755, $sockets;

	my $self = bless {
		base      => $base,
		sockets   => $sockets,
		user      => $user,
		uid       => $passwd[2],
		gid       => $passwd[3],
		node_list => [],
		wanted    => [ map { "n$_" } 1 .. ($opts{nodes} // 3) ],
		members   => [ map { "e$_" } 1 .. ($opts{etcd} // 1) ],
		ttl       => $opts{ttl} // '2s',
		reserve   => $opts{reserve} // 0,
		plain     => $opts{plain} // 0,
		tls       => $opts{tls} // 0,
		auth      => $opts{auth} // 0,
		peer      => $opts{peer} // 'postgres',
		settings  => $opts{settings} // {},
		zones     => $opts{zones} // {},       # of the nodes, by name
		etcd_data => $opts{etcd_in_memory} ? tempdir('elector-XXXXXX', DIR => '/dev/shm') : $base,
		etcd_urls => [],
		node      => {},    # name => { state, settings }
		clients   => [],    # writers, probers, sessions: ended at teardown
		next_silent => 90,
	}, $class;

	push @clusters, $self;
	weaken($clusters[-1]);

	chmod 0755, $self->{etcd_data};
	$self->{bindir} = $ENV{ELECTOR_PG_BINDIR} // must_run({}, 'pg_config', '--bindir');
	chomp $self->{bindir};

	$self->{net} = ElectorNetwork->new;
	$self->{net}->add_host('client', '10.99.0.2');
	my $number = 0;
	$self->{net}->add_host($_, '10.99.0.' . (50 + ++$number)) foreach @{ $self->{members} };
	$self->_declare_node($_) foreach @{ $self->{wanted} };
	$self->_make_certificates if $self->{tls};
	$self->_make_password     if $self->{auth};
	return $self;
}

sub _declare_node
{
	my ($self, $node) = @_;
	return if $self->{node}{$node};
	my $number = keys %{ $self->{node} };

	die "too many nodes\n" if $number >= 30;
	$self->{net}->add_host($node, '10.99.0.' . (10 + $number + 1));
	$self->{node}{$node} = { state => 'new', settings => {} };
	mkdir "$self->{sockets}/$node";
	chown $self->{uid}, $self->{gid}, "$self->{sockets}/$node";
	return;
}

# etcd, all nodes, the extension and the tables; every follower streams.
sub build
{
	my ($self) = @_;
	my ($first, @others) = @{ $self->{wanted} };

	$self->start_etcd;
	$self->init_first($first);
	$self->start($first);
	$self->wait_for_writable($first);
	$self->create_schema($first);
	$self->add_node($_, from => $first) foreach @others;
	$self->start($_) foreach @others;
	$self->wait_for_follower($_) foreach @others;
	$self->remember;
	return $self;
}

# Preload the library stage (stage/stage.c): a call between new and build.  order
# is 'before' or 'after' pg_elector.  Sessions and servers are then staged by its
# settings; walreceivers by hold_flush().
sub preload_stage
{
	my ($self, $order) = @_;
	my $library = "$self->{sockets}/stage.so";     # a background worker's path has to be short
	chomp(my $include = must_run({}, 'pg_config', '--includedir-server'));

	must_run({}, 'cc', '-O2', '-Wall', '-Werror', '-D_GNU_SOURCE', '-fPIC', '-shared',
		"-I$include", '-o', $library, "$kit_directory/stage/stage.c");
	my @libraries = $self->{plain} ? () : ('pg_elector');
	$order eq 'before' ? unshift @libraries, $library : push @libraries, $library;
	$self->{settings}{shared_preload_libraries} = join ',', @libraries;
	$self->{settings}{'stage.hold_flush'} = "$self->{sockets}/hold_flush";
	$self->{stage} = $library;
	return;
}

sub stage { return $_[0]{stage} // die "there is no stage\n" }

# Standbys write what they receive, and say so, but do not flush it.
sub hold_flush    { my ($self) = @_; write_file("$self->{sockets}/hold_flush", ''); return }
sub release_flush { my ($self) = @_; unlink "$self->{sockets}/hold_flush"; return }

# Commits wait for followers from now on: by a policy, in a plain cluster for
# synchronous_standby_names.
sub set_durability
{
	my ($self, $policy, $names) = @_;
	my ($leader) = grep { $self->is_leader($_) } $self->nodes;

	return $self->reload_line($leader, 'synchronous_standby_names', $names) if $self->{plain};
	$self->reload_line($_, 'pg_elector.durability', $policy) foreach $self->nodes;
	$self->poll_until(sub { $self->has_durability($policy) }, 20, "durability $policy");
	$self->remember;
	return;
}

# Is that alone in force, by the record in etcd?
sub has_durability
{
	my ($self, $policy) = @_;
	my %keys   = $self->etcd_keys;
	my $record = decode_json($keys{durability} // return 0);
	return !$record->{changing} && $record->{rule}{policy} eq $policy;
}

sub teardown
{
	my ($self) = @_;
	return if $self->{gone}++;

	$_->stop foreach grep { defined } @{ $self->{clients} };
	$self->{net}->teardown if $self->{net};
	remove_tree($self->{sockets});
	remove_tree($self->{etcd_data}) if $self->{etcd_data} ne $self->{base};
	return;
}

sub nodes   { return @{ $_[0]{node_list} } }
sub network { return $_[0]{net} }
sub address { return $_[0]{net}->address($_[1]) }
sub data    { my ($self, $host) = @_; return ($self->{node}{$host} ? $self->{base} : $self->{etcd_data}) . "/$host" }
sub log     { return "$_[0]{base}/$_[1].log" }
sub bindir  { return $_[0]{bindir} }
sub base    { return $_[0]{base} }

# The words that run a command on a host as the servers' user.
sub as_user
{
	my ($self, $host) = @_;
	return ($self->{net}->on($host), 'setpriv', "--reuid=$self->{uid}",
		"--regid=$self->{gid}", '--init-groups');
}

# Run a server program on a host, as the servers' user.
sub run_on
{
	my ($self, $host, $opts, $program, @args) = @_;
	$program = "$self->{bindir}/$program" unless $program =~ m{/};
	return run_command(
		{
			env => {
				HOME => $self->{base}, LC_ALL => 'C', LANG => undef, PGDATA => undef,
				PGHOST => undef, NOTIFY_SOCKET => undef
			},
			%$opts
		},
		$self->as_user($host), $program, @args);
}

# Any program that has to succeed.
sub must_run_as_user
{
	my ($self, $host, @cmd) = @_;
	return must_run({}, $self->as_user($host), @cmd);
}

sub _must_run_on
{
	my ($self, $host, $opts, @cmd) = @_;
	my $result = $self->run_on($host, $opts, @cmd);
	$self->fail("failed: @cmd\n$result->{out}$result->{err}") unless $result->{ok};
	return $result->{out};
}

# Die, after showing how the logs end.
sub fail
{
	my ($self, $message) = @_;
	$self->show_logs;
	die "$message\n";
}

sub show_logs
{
	my ($self, $lines) = @_;
	foreach my $host (@{ $self->{node_list} }, @{ $self->{members} })
	{
		my $log = $self->log($host);
		next unless -e $log;
		Test::More::diag("--- end of $host.log");
		Test::More::diag(run_command({}, 'tail', '-n', $lines // ($host =~ /^e/ ? 5 : 25), $log)->{out});
	}
	return;
}

# Call a function until it returns true, and return that.  Dies with the logs
# when the bound has passed.  Also as a function: poll_until($sub, 10, 'what').
sub poll_until
{
	my $self = ref $_[0] eq 'CODE' ? undef : shift;
	my ($sub, $timeout, $what) = @_;
	my $deadline = now() + $timeout;

	while (1)
	{
		my $value = $sub->();
		return $value if $value;
		last if now() > $deadline;
		sleep(0.02);
	}
	my $message = "timed out after $timeout s waiting for $what";
	$_->show_logs foreach $self ? ($self) : grep { defined } @clusters;
	die "$message\n";
}

#--------------------------------------------------------------------------
# etcd
#--------------------------------------------------------------------------

sub members { return @{ $_[0]{members} } }
sub etcd_url { return ($_[0]{tls} ? 'https://' : 'http://') . $_[0]->address($_[1]) . ':2379' }
sub pki { return $_[0]{pki} }

# Certificates: the CA 'ca', each member of etcd, 'client', which the nodes use, and
# 'operator', which etcdctl uses.
sub _make_certificates
{
	my ($self) = @_;
	my $pki = $self->{pki} = ElectorPki->new("$self->{base}/pki", $self->{uid}, $self->{gid});

	$pki->make_ca('ca');
	$self->issue_member($_) foreach $self->members;
	# Without a common name, which etcd's gateway refuses once there are users.
	$pki->issue($_, ca => 'ca', subject => "/O=$_", usage => 'clientAuth') foreach qw(client operator);
	$self->{settings}{'pg_elector.etcd_ca_file'}   //= $pki->cert('ca');
	$self->{settings}{'pg_elector.etcd_cert_file'} //= $pki->cert('client');
	$self->{settings}{'pg_elector.etcd_key_file'}  //= $pki->key('client');
	return;
}

# A member's gateway is a client of the member itself, by the same certificate.
sub issue_member
{
	my ($self, $member, %opts) = @_;
	return $self->{pki}->issue($member, ca => 'ca', usage => 'serverAuth,clientAuth',
		names => [ 'IP:' . $self->address($member), 'IP:127.0.0.1' ], %opts);
}

# The nodes' password file, of which each has a copy.
sub password_file { my ($self, $node) = @_; return "$self->{base}/password" . ($node ? ".$node" : '') }

sub _make_password
{
	my ($self) = @_;
	$self->set_password('first-secret', $_) foreach @{ $self->{wanted} };
	$self->{settings}{'pg_elector.etcd_user'} //= 'elector';
	return;
}

sub set_password
{
	my ($self, $password, $node) = @_;
	my $file = $self->password_file($node);

	write_file("$file.new", "$password\n");
	chmod 0600, "$file.new";
	chown $self->{uid}, $self->{gid}, "$file.new";
	rename "$file.new", $file or die "could not rename $file: $!\n";
	return;
}

# Of the user elector, in etcd; the nodes' files are another matter.
sub change_etcd_password
{
	my ($self, $password) = @_;
	$self->etcdctl({ stdin => "$password\n" }, 'user', 'passwd', '--interactive=false', 'elector');
	return;
}

# A role for the cluster's prefix and nothing else; from then on etcdctl is root's.
sub _enable_auth
{
	my ($self) = @_;
	$self->etcdctl(@$_) foreach (
		[ 'user', 'add', 'root:root secret' ], [ 'user', 'grant-role', 'root', 'root' ],
		[ 'role', 'add', 'elector' ],
		[ 'role', 'grant-permission', 'elector', '--prefix=true', 'readwrite', $self->prefix ],
		[ 'user', 'add', 'elector:first-secret' ], [ 'user', 'grant-role', 'elector', 'elector' ],
		[ 'auth', 'enable' ]);
	$self->{auth_enabled} = 1;
	return;
}

# Another endpoint for nodes that are made from now on, before all others.
sub add_endpoint { my ($self, $url) = @_; unshift @{ $self->{etcd_urls} }, $url; return }

# What pg_elector.etcd says.
sub endpoints
{
	my ($self) = @_;
	return join ',', @{ $self->{etcd_urls} }, map { $self->etcd_url($_) } @{ $self->{members} };
}

# Start members (default: all) and wait until they serve.
sub start_etcd
{
	my ($self, @members) = @_;
	@members = @{ $self->{members} } unless @members;
	my $scheme = $self->{tls} ? 'https' : 'http';
	my $initial = join ',',
	  map { "$_=http://" . $self->address($_) . ':2380' } @{ $self->{members} };

	foreach my $member (@members)
	{
		my $address = $self->address($member);
		my $data    = $self->data($member);
		if (!-d $data)
		{
			mkdir $data, 0700;
			chown $self->{uid}, $self->{gid}, $data;
		}
		$self->{etcd_pid}{$member} = spawn(
			{ log => $self->log($member), env => { ETCDCTL_API => undef } },
			# It is not what is tested: on a busy machine it comes first.
			'nice', '-n', '-10', $self->as_user($member), $self->_etcd_program('etcd'),
			'--name', $member, '--data-dir', $data,
			'--listen-client-urls', $self->etcd_url($member) . ",$scheme://127.0.0.1:2379",
			'--advertise-client-urls', $self->etcd_url($member),
			'--listen-metrics-urls', "http://$address:2381",
			$self->{tls}
			? (
				'--cert-file', $self->{pki}->cert($member), '--key-file', $self->{pki}->key($member),
				'--client-cert-auth', '--trusted-ca-file', $self->{pki}->cert('ca'))
			: (),
			@{ $self->{etcd_options} // [] },
			'--listen-peer-urls', "http://$address:2380",
			'--initial-advertise-peer-urls', "http://$address:2380",
			'--initial-cluster', $initial, '--initial-cluster-token', 'elector-test',
			'--logger', 'zap', '--log-outputs', 'stderr');
	}
	foreach my $member (@members)
	{
		$self->poll_until(
			sub { ($self->http_get($self->_metrics_url($member, 'health')) // '') =~ /"true"/ },
			20, "etcd member $member");
	}
	$self->_enable_auth if $self->{auth} && !$self->{auth_enabled};
	return;
}

# Without TLS, on a port of its own.
sub _metrics_url { my ($self, $member, $path) = @_; return 'http://' . $self->address($member) . ":2381/$path" }

# Another version of etcd than the one in PATH: ELECTOR_ETCD_BINDIR.
sub _etcd_program
{
	my ($self, $name) = @_;
	return defined $ENV{ELECTOR_ETCD_BINDIR} ? "$ENV{ELECTOR_ETCD_BINDIR}/$name" : $name;
}

# The member that leads etcd itself; with an argument, another is made to.
sub etcd_leader
{
	my ($self, $wanted) = @_;
	my $status = decode_json($self->etcdctl('endpoint', 'status', '-w', 'json'));
	my %of     = map { my $at = $_->{Endpoint}; (grep { $self->etcd_url($_) eq $at } $self->members)[0] => $_->{Status} } @$status;
	my %name   = map { $of{$_}{header}{member_id} => $_ } keys %of;
	my ($leader) = map { $name{ $_->{leader} } } values %of;

	return $leader if !defined $wanted || $wanted eq $leader;
	$self->etcdctl('--endpoints', $self->etcd_url($leader), 'move-leader',
		sprintf('%x', $of{$wanted}{header}{member_id}));
	return $wanted;
}

sub stop_etcd { my ($self, @members) = @_; return $self->_end_etcd('TERM', @members) }
sub kill_etcd { my ($self, @members) = @_; return $self->_end_etcd('KILL', @members) }

sub restart_etcd
{
	my ($self, @members) = @_;
	$self->stop_etcd(@members);
	return $self->start_etcd(@members);
}

# One member after the other, each only when etcd as a whole serves again.
sub roll_etcd
{
	my ($self) = @_;
	foreach my $member ($self->members)
	{
		$self->restart_etcd($member);
		$self->poll_until(sub { eval { $self->etcdctl('endpoint', 'health'); 1 } }, 30, 'etcd to be whole');
	}
	return;
}

sub _end_etcd
{
	my ($self, $signal, @members) = @_;
	@members = @{ $self->{members} } unless @members;
	my @pids = map { $self->{net}->pids($_) } @members;
	kill_and_wait($signal, @pids) or die "etcd does not end\n";
	return;
}

# Of a single member, whose keys become those of the backup.
sub restore_etcd
{
	my ($self, $backup) = @_;
	my ($member) = @{ $self->{members} };
	my $url = 'http://' . $self->address($member) . ':2380';

	$self->stop_etcd;
	remove_tree($self->data($member));
	must_run({ env => { ETCDCTL_API => '3' } }, 'etcdctl', 'snapshot', 'restore', $backup,
		'--data-dir', $self->data($member), '--name', $member, '--initial-cluster', "$member=$url",
		'--initial-cluster-token', 'elector-test', '--initial-advertise-peer-urls', $url);
	must_run({}, 'chown', '-R', "$self->{uid}:$self->{gid}", $self->data($member));
	return $self->start_etcd;
}

# An HTTP GET from the clients' namespace; undef when there is no answer.
sub http_get
{
	my ($self, $url) = @_;
	my $result = run_command({ timeout => 5 }, $self->{net}->on('client'), $^X,
		'-MHTTP::Tiny', '-e',
		'my $r = HTTP::Tiny->new(timeout => 3)->get(shift); print $r->{content}; exit !$r->{success}',
		$url);
	return $result->{ok} ? $result->{out} : undef;
}

sub etcd_metric
{
	my ($self, $name, $member) = @_;
	my $text = $self->http_get($self->_metrics_url($member // $self->{members}[0], 'metrics')) // die "etcd does not answer\n";
	$text =~ /^\Q$name\E(?:\{[^}]*\})? (\S+)/m or die "etcd has no metric $name\n";
	return 0 + $1;
}

sub etcdctl
{
	my ($self, @args) = @_;
	my $opts = ref $args[0] eq 'HASH' ? shift @args : {};
	return must_run(
		{ env => { ETCDCTL_API => '3' }, %$opts },
		$self->{net}->on('client'), $self->_etcd_program('etcdctl'),
		'--endpoints', join(',', map { $self->etcd_url($_) } @{ $self->{members} }),
		$self->{tls}
		? (
			'--cacert', $self->{pki}->cert('ca'), '--cert', $self->{pki}->cert('operator'),
			'--key', $self->{pki}->key('operator'))
		: (),
		$self->{auth_enabled} ? ('--user', 'root:root secret') : (), @args);
}

sub prefix { return '/pg_elector/orders/' }

# The keys under the cluster's prefix: name => value.
sub etcd_keys
{
	my ($self) = @_;
	my @lines = split /\n/, $self->etcdctl('get', '--prefix', $self->prefix, '--keys-only');
	my %keys;
	foreach my $key (grep { length } @lines)
	{
		chomp(my $value = $self->etcdctl('get', '--print-value-only', $key));
		$keys{ substr $key, length $self->prefix } = $value;
	}
	return %keys;
}

# The revision of etcd's store: it moves with every write, and with no read.
sub etcd_revision
{
	my ($self) = @_;
	my $status = decode_json($self->etcdctl('endpoint', 'status', '-w', 'json'));
	return $status->[0]{Status}{header}{revision};
}

# A host that accepts connections on a port and never answers.  Returns its
# address.
sub start_silent
{
	my ($self, $name, $port) = @_;
	my $address = '10.99.0.' . $self->{next_silent}++;

	$self->{net}->add_host($name, $address);
	spawn({}, $self->{net}->on($name), $^X, '-MIO::Socket::INET', '-e', <<'END', $address, $port);
my ($address, $port) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port,
	Listen => 100, ReuseAddr => 1) or die;
my @kept;
while (my $peer = $listener->accept) { push @kept, $peer }
END
	$self->poll_until(
		sub {
			run_command({ timeout => 2 }, $self->{net}->on('client'), $^X, '-MIO::Socket::INET',
				'-e', 'exit !IO::Socket::INET->new(PeerAddr => shift, Timeout => 1)',
				"$address:$port")->{ok};
		},
		10, "the silent host $name");
	return $address;
}

# Proxies in front of etcd, one for each member, which nodes that are made from
# now on use instead of it.  delay_etcd() then says by how many milliseconds each
# answer is late, at least and at most.
sub start_delays
{
	my ($self) = @_;
	my @urls;
	foreach my $member ($self->members)
	{
		my $address = '10.99.0.' . $self->{next_silent}++;
		$self->{net}->add_host("late-$member", $address);
		spawn({ log => $self->log("late-$member") }, $self->{net}->on("late-$member"), $^X,
			"$kit_directory/delay", "$address:2379", $self->address($member) . ':2379',
			"$self->{base}/delay");
		push @urls, "http://$address:2379";
	}
	$self->{settings}{'pg_elector.etcd'} = join ',', @urls;
	return;
}

sub delay_etcd
{
	my ($self, $least, $greatest) = @_;
	write_file("$self->{base}/delay.new", "$least $greatest\n");
	rename "$self->{base}/delay.new", "$self->{base}/delay" or die "could not rename: $!\n";
	return;
}

#--------------------------------------------------------------------------
# Servers
#--------------------------------------------------------------------------

# initdb and configuration of the first node.
sub init_first
{
	my ($self, $node, %opts) = @_;
	my $data = $self->data($node);

	$self->_declare_node($node);
	$self->_must_run_on($node, { timeout => 120 }, 'initdb', '--no-sync', '-D', $data,
		'-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale', 'C.UTF-8');
	$self->append($node, 'pg_hba.conf', "host all all 10.99.0.0/16 trust\n"
		  . "host replication all 10.99.0.0/16 trust\n");
	$self->append($node, 'postgresql.conf', $self->configuration($node, %opts));
	$self->_joined($node);
	return;
}

# The lines of postgresql.conf; the last three are those of the node itself.
sub configuration
{
	my ($self, $node, %opts) = @_;
	my %settings = (
		listen_addresses => '*',
		port             => 5432,
		fsync            => 'on',
		shared_buffers   => '32MB',
		max_wal_senders  => 20,
		wal_keep_size    => '512MB',
		wal_log_hints    => 'on',
		hot_standby      => 'on',
		log_line_prefix  => '%m [%p] %b ',
		# The kit's rows are few; its checkpoints are those that somebody asks for.
		checkpoint_timeout => '1h',
		$self->{plain} ? () : (
			shared_preload_libraries       => 'pg_elector',
			'pg_elector.cluster'           => 'orders',
			'pg_elector.etcd'              => $self->endpoints,
			'pg_elector.lease_ttl'         => $self->{ttl},
			'pg_elector.lease_margin'      => '500ms',
			'pg_elector.failover_cooldown' => '0s',
		),
		%{ $self->{settings} },
		%{ $opts{settings} // {} },
		unix_socket_directories => "$self->{sockets}/$node",
		$self->{plain} ? () : (
			'pg_elector.node'     => $node,
			'pg_elector.conninfo' => $self->node_conninfo($node),
			'pg_elector.zone'     => $self->{zones}{$node},
			$self->{auth} ? ('pg_elector.etcd_password_file' => $self->password_file($node)) : (),
		),
	);
	return join '', map { "$_ = '$settings{$_}'\n" }
	  sort { ($a =~ /\./) <=> ($b =~ /\./) || $a cmp $b } grep { defined $settings{$_} } keys %settings;
}

# How the other nodes reach this one.
sub node_conninfo
{
	my ($self, $node) = @_;
	return 'host=' . $self->address($node) . ' port=5432 user=' . $self->{peer} . ' dbname=postgres';
}

sub append
{
	my ($self, $node, $file, $text) = @_;
	my $path = $self->data($node) . "/$file";
	open(my $fh, '>>', $path) or die "could not open $path: $!\n";
	print $fh $text;
	close($fh) or die "could not write $path: $!\n";
	return;
}

# Replace one setting's line in postgresql.conf; undef removes it.
sub set_line
{
	my ($self, $node, $name, $value) = @_;
	my $path = $self->data($node) . '/postgresql.conf';
	my $text = read_file($path);
	$text =~ s/^\Q$name\E\s*=.*\n//mg;
	$text .= "$name = '$value'\n" if defined $value;
	write_file($path, $text);
	return;
}

# The same on a server that runs, which loads it.
sub reload_line
{
	my ($self, $node, $name, $value) = @_;
	$self->set_line($node, $name, $value);
	$self->_must_run_on($node, {}, 'pg_ctl', '-D', $self->data($node), 'reload');
	return;
}

sub _joined
{
	my ($self, $node) = @_;
	$self->{node}{$node}{state} = 'stopped';
	push @{ $self->{node_list} }, $node unless grep { $_ eq $node } @{ $self->{node_list} };
	return;
}

# A new node, as a user would add it: pg_basebackup from the leader, then its
# own name, connection string and address.  Options: from, settings, name (what
# pg_elector.node says, when it is not the node's), wal (pg_basebackup's method).
sub add_node
{
	my ($self, $node, %opts) = @_;
	my $from = $opts{from} // $self->leader // die "there is no leader to copy from\n";
	my $data = $self->data($node);

	$self->_declare_node($node);
	$self->_must_run_on($node, { timeout => 120 }, 'pg_basebackup', '-D', $data,
		'-h', $self->address($from), '-U', 'postgres', '-X', $opts{wal} // 'stream', '-c', 'fast',
		$self->{reserve} ? ('-C', '-S', "pg_elector_$node") : (),
		$self->{plain} ? '-R' : ());
	my %lines = (
		unix_socket_directories => "$self->{sockets}/$node",
		$self->{plain} ? () : (
			'pg_elector.node'     => $opts{name} // $node,
			'pg_elector.conninfo' => $self->node_conninfo($node),
			'pg_elector.zone'     => $self->{zones}{$node},
			$self->{auth} ? ('pg_elector.etcd_password_file' => $self->password_file($node)) : (),
		),
		%{ $opts{settings} // {} });
	$self->set_line($node, $_, $lines{$_}) foreach sort keys %lines;
	$self->_joined($node);
	return;
}

# Start with pg_ctl.  The extra argument must survive every demotion.
# Returns run_command's hash; dies when it fails, unless may_fail is given.
sub start
{
	my ($self, $node, %opts) = @_;
	my $timeout = $opts{timeout} // 60;
	my $result = $self->run_on($node, { timeout => $timeout + 10 }, 'pg_ctl',
		'-D', $self->data($node), '-l', $self->log($node), '-t', $timeout,
		'-o', '-c work_mem=5MB', $opts{no_wait} ? '-W' : '-w', 'start');

	$self->{node}{$node}{state} = 'running' if $result->{ok};
	$self->fail("could not start $node: $result->{out}$result->{err}")
	  unless $result->{ok} || $opts{may_fail};
	return $result;
}

# Options: mode (fast), may_fail, timeout.
sub stop
{
	my ($self, $node, %opts) = @_;
	my $timeout = $opts{timeout} // 60;
	my $result = $self->run_on($node, { timeout => $timeout + 10 }, 'pg_ctl',
		'-D', $self->data($node), '-m', $opts{mode} // 'fast', '-t', $timeout, '-w', 'stop');

	$self->{node}{$node}{state} = 'stopped' if $result->{ok};
	$self->fail("could not stop $node: $result->{out}$result->{err}")
	  unless $result->{ok} || $opts{may_fail};
	return $result;
}

sub restart
{
	my ($self, $node, %opts) = @_;
	$self->stop($node, %opts);
	return $self->start($node);
}

# From postmaster.pid; undef when there is none.
sub postmaster_pid
{
	my ($self, $node) = @_;
	open(my $fh, '<', $self->data($node) . '/postmaster.pid') or return undef;
	my $pid = <$fh>;
	return defined $pid && $pid =~ /^(\d+)/ ? $1 : undef;
}

sub pids { return $_[0]{net}->pids($_[1]) }

sub _command_line
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/cmdline") or return '';
	my $line = <$fh> // '';
	$line =~ tr/\0/ /;
	return $line;
}

# Processes of a node whose title matches.
sub find_processes
{
	my ($self, $node, $title) = @_;
	return grep { _command_line($_) =~ $title } $self->pids($node);
}

# A background worker, by its title; undef when there is none.
sub process_pid
{
	my ($self, $node, $name) = @_;
	return ($self->find_processes($node, qr/^postgres: (?:.*: )?\Q$name\E\s*$/))[0];
}

# The process of the elector; undef when there is none.
sub worker_pid { my ($self, $node) = @_; return $self->process_pid($node, 'pg_elector') }

# Private memory of a process, in kB.
sub private_memory
{
	my ($self, $pid) = @_;
	my $rollup = read_file("/proc/$pid/smaps_rollup");
	my $total  = 0;
	$total += $1 while $rollup =~ /^Private_(?:Clean|Dirty):\s+(\d+) kB/mg;
	return $total;
}

# How often a process has gone to sleep so far.
sub wakeups
{
	my ($self, $pid) = @_;
	return read_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die "no such process\n";
}

#--------------------------------------------------------------------------
# Faults
#--------------------------------------------------------------------------

sub kill_postmaster
{
	my ($self, $node) = @_;
	my $pid = $self->postmaster_pid($node) // die "$node has no postmaster\n";
	$self->{node}{$node}{state} = 'stopped';
	kill_and_wait('KILL', $pid) or die "the postmaster of $node does not die\n";
	return;
}

# The host is dead: first silent, then without a process.
sub kill_all
{
	my ($self, $node) = @_;
	$self->{net}->set_link($node, 'down');
	$self->{node}{$node}{state} = 'stopped';
	while (my @pids = $self->pids($node)) { kill_and_wait('KILL', @pids) }
	return;
}

# The dead host is back, without its server.
sub revive
{
	my ($self, $node) = @_;
	$self->{net}->set_link($node, 'up');
	return;
}

# Wait until no process of a dead server is left.
sub wait_for_no_process
{
	my ($self, $node, $timeout) = @_;
	$self->poll_until(sub { !grep { process_alive($_) } $self->pids($node) },
		$timeout // 20, "the last process of $node to end");
	return;
}

sub stop_worker
{
	my ($self, $node) = @_;
	my $pid = $self->worker_pid($node) // die "$node has no elector\n";
	$self->{node}{$node}{stopped_worker} = $pid;
	kill 'STOP', $pid;
	return $pid;
}

sub cont_worker
{
	my ($self, $node) = @_;
	kill 'CONT', delete $self->{node}{$node}{stopped_worker};
	return;
}

# Every process of a node (or of an etcd member) stands still: the kernel goes
# on accepting its connections, and nobody answers.
sub stop_all
{
	my ($self, $node) = @_;
	$self->{node}{$node}{state} = 'paused' if $self->{node}{$node};
	# Twice: the postmaster may have forked in between.
	foreach (1 .. 2) { kill 'STOP', $self->pids($node) }
	return;
}

sub cont_all
{
	my ($self, $node) = @_;
	kill 'CONT', $self->pids($node);
	$self->{node}{$node}{state} = 'running' if $self->{node}{$node};
	return;
}

# A backend dies by SIGKILL: the postmaster restarts everything in place.
sub kill_one_backend
{
	my ($self, $node) = @_;
	my $session = $self->session($node);
	my $result  = $session->query('SELECT pg_backend_pid()');
	kill 'KILL', $result->{out};
	return $result->{out};
}

# A node sends nothing to its followers, or to one of them: its walsenders stand still.
# Returns their process ids, for SIGCONT.
sub stop_streams
{
	my ($self, $node, $follower) = @_;
	my $which = defined $follower ? "client_addr = '" . $self->address($follower) . q{'} : 'true';
	my @pids = split /\n/, $self->psql($node, "SELECT pid FROM pg_stat_replication WHERE $which");

	die "$node has no such followers\n" unless @pids;
	kill 'STOP', @pids;
	return @pids;
}

# Cut a node (or an etcd member) off.  from: 'all', 'etcd', 'peers', 'clients',
# or a list of hosts; direction and refuse as in ElectorNetwork.
sub cut
{
	my ($self, $host, %opts) = @_;
	my $from = delete $opts{from} // 'all';
	my @hosts;

	if (ref $from)              { @hosts = @$from }
	elsif ($from eq 'etcd')     { @hosts = @{ $self->{members} } }
	elsif ($from eq 'peers')    { @hosts = grep { $_ ne $host } $self->nodes }
	elsif ($from eq 'clients')  { @hosts = ('client') }
	elsif ($from eq 'all')      { return $self->{net}->cut($host, %opts) }
	else                        { @hosts = ($from) }
	return $self->{net}->cut($host, %opts, from => \@hosts);
}

sub heal { my ($self, $host) = @_; return $self->{net}->heal($host) }

#--------------------------------------------------------------------------
# Questions
#--------------------------------------------------------------------------

# A connection string.  Options: over ('socket' or 'net'), user, db.
sub conninfo
{
	my ($self, $node, %opts) = @_;
	my $host = ($opts{over} // 'socket') eq 'net' ? $self->address($node) : "$self->{sockets}/$node";
	return "host=$host port=5432 dbname=" . ($opts{db} // 'postgres')
	  . ' user=' . ($opts{user} // 'postgres') . ' connect_timeout=2';
}

# What applications use; only from the namespace 'client'.
sub conninfo_all
{
	my ($self, %opts) = @_;
	return 'host=' . join(',', map { $self->address($_) } $self->nodes)
	  . ' port=5432 dbname=postgres user=' . ($opts{user} // 'app')
	  . ' target_session_attrs=read-write connect_timeout=2';
}

# One statement by psql.  Options: over, user, db, timeout, conninfo.
# Returns a hash: ok, out, err, sqlstate.
sub try_psql
{
	my ($self, $node, $sql, %opts) = @_;
	my $timeout = $opts{timeout} // 10;
	my $conninfo = $opts{conninfo} // $self->conninfo($node, %opts);
	my $net = defined $opts{conninfo} || ($opts{over} // '') eq 'net';

	my $result = run_command(
		{
			timeout => $timeout + 3,
			env     => { PGOPTIONS => '-c statement_timeout=' . int($timeout * 1000), LC_ALL => 'C' }
		},
		$net ? $self->{net}->on('client') : (),
		"$self->{bindir}/psql", '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1',
		'-v', 'VERBOSITY=verbose', '-d', $conninfo, '-c', $sql);
	chomp $result->{out};
	$result->{sqlstate} = $result->{err} =~ /(?:ERROR|FATAL|PANIC):  (\w{5}):/ ? $1 : '';
	return $result;
}

# The same, of a statement that has to succeed; returns its output.
sub psql
{
	my ($self, $node, $sql, %opts) = @_;
	my $result = $self->try_psql($node, $sql, %opts);
	$self->fail('psql on ' . ($node // 'the cluster') . ": $sql\n$result->{err}") unless $result->{ok};
	return $result->{out};
}

# One statement by libpq itself, which unlike psql tells the SQLSTATE of a
# connection that was refused.  Returns (sqlstate or 'ok', where or value, message).
sub ask
{
	my ($self, $node, $sql, %opts) = @_;
	my $result = run_command({ timeout => 15 },
		($opts{over} // '') eq 'net' ? $self->{net}->on('client') : (),
		$self->client_program, 'ask', $self->conninfo($node, user => 'app', %opts), $sql);
	chomp $result->{out};
	return split / /, $result->{out}, 3;
}

# elector_status as a node shows it: one hash a member.
sub query_status
{
	my ($self, $node) = @_;
	my $result = $self->try_psql($node, 'SELECT row_to_json(s) FROM elector_status AS s ORDER BY node');
	return unless $result->{ok};
	return map { decode_json($_) } split /\n/, $result->{out};
}

# One member's row of it.
sub status_of
{
	my ($self, $asked, $node) = @_;
	my ($row) = grep { $_->{node} eq $node } $self->query_status($asked);
	return $row;
}

# elector_history, oldest first.
sub query_history
{
	my ($self, $node) = @_;
	return map { decode_json($_) } split /\n/,
	  $self->psql($node, 'SELECT row_to_json(h) FROM elector_history AS h ORDER BY term');
}

sub is_leader
{
	my ($self, $node) = @_;
	return 0 if $self->{node}{$node}{state} ne 'running';
	my $sql = $self->{plain} ? 'SELECT NOT pg_is_in_recovery()' : 'SELECT elector_is_leader()';
	my $result = $self->try_psql($node, $sql, timeout => 3);
	return $result->{ok} && $result->{out} eq 't';
}

# The node that says it is the leader, with an open gate.
sub leader
{
	my ($self, %opts) = @_;
	my %excluded = map { $_ => 1 } ref $opts{exclude} ? @{ $opts{exclude} } : $opts{exclude} // ();
	foreach my $node (grep { !$excluded{$_} } $self->nodes)
	{
		return $node if $self->is_leader($node);
	}
	return undef;
}

# Options: exclude (a node or a list), timeout.
sub wait_for_leader
{
	my ($self, %opts) = @_;
	return $self->poll_until(sub { $self->leader(%opts) }, $opts{timeout} // 15, 'a leader');
}

# A node takes writes: also before the extension has been created.
sub wait_for_writable
{
	my ($self, $node, $timeout) = @_;
	$self->poll_until(
		sub { $self->try_psql($node, 'SELECT pg_current_xact_id()', timeout => 3)->{ok} },
		$timeout // 15, "$node to take writes");
	return;
}

# A node streams from the leader and has replayed all that the leader had
# written when this was called.
sub wait_for_follower
{
	my ($self, $node, $timeout) = @_;
	$timeout //= 30;
	my $leader = $self->wait_for_leader(exclude => $node, timeout => $timeout);
	my $lsn = $self->psql($leader, 'SELECT pg_current_wal_lsn()');

	$self->poll_until(
		sub {
			my $result = $self->try_psql($node,
				"SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '$lsn'", timeout => 3);
			return 0 unless $result->{ok} && $result->{out} eq 't';
			return 1 if $self->{plain};
			my $row = $self->status_of($leader, $node) or return 0;
			return $row->{role} eq 'follower' && $row->{state} eq 'streaming';
		},
		$timeout, "$node to follow $leader");
	$self->{node}{$node}{state} = 'running';
	return $leader;
}

# A node has followed, or led, a leadership that is open: what it says in an election
# counts (S10).
sub wait_until_counts
{
	my ($self, $node) = @_;
	$self->poll_until(sub { read_file($self->data($node) . '/pg_elector/state') =~ /^caught_up = true$/m },
		20, "$node to count in elections");
	return;
}

# A row of elector_status as some node shows it.  wanted: column => value or qr//
sub wait_for_status
{
	my ($self, $asked, $node, $wanted, $timeout) = @_;
	my $text = join ', ', map { "$_ $wanted->{$_}" } sort keys %$wanted;
	return $self->poll_until(
		sub {
			my $row = $self->status_of($asked, $node) or return undef;
			foreach my $column (keys %$wanted)
			{
				my ($is, $want) = ($row->{$column} // '', $wanted->{$column});
				return undef unless ref $want ? $is =~ $want : $is eq $want;
			}
			return $row;
		},
		$timeout // 20, "elector_status of $node on $asked: $text");
}

# Forget a member that was killed, as soon as etcd knows that it is gone.
sub remove_dead
{
	my ($self, $on, $node) = @_;
	$self->poll_until(sub { $self->try_psql($on, "SELECT elector_remove_member('$node')")->{ok} },
		60, "$node to be removed");
	return;
}

# What a backend waits for; empty when for nothing.
sub wait_event
{
	my ($self, $node, $pid) = @_;
	return $self->psql($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid");
}

# A session's commit waits for its followers.
sub wait_for_commit_wait
{
	my ($self, $node, $pid) = @_;
	$self->poll_until(sub { $self->wait_event($node, $pid) eq 'SyncRep' },
		10, "the commit of process $pid on $node to wait");
	return;
}

sub log_offset { return -s $_[0]->log($_[1]) || 0 }

sub log_since
{
	my ($self, $node, $offset) = @_;
	return substr(read_file($self->log($node)), $offset // 0);
}

sub wait_log
{
	my ($self, $node, $pattern, $offset, $timeout) = @_;
	return $self->poll_until(
		sub { $self->log_since($node, $offset) =~ $pattern ? $& : undef },
		$timeout // 20, "$pattern in the log of $node");
}

# The node's own files that a rewind or a clone must not touch: name => content.
# postgresql.auto.conf is not one of them, as the elector itself writes there.
sub configuration_files
{
	my ($self, $node) = @_;
	return map { $_ => read_file($self->data($node) . "/$_") } qw(postgresql.conf pg_hba.conf pg_ident.conf);
}

sub timeline
{
	my ($self, $node) = @_;
	return $self->psql($node, 'SELECT timeline_id FROM pg_control_checkpoint()');
}

#--------------------------------------------------------------------------
# What must be true after every fault
#--------------------------------------------------------------------------

# Remember what a demotion must not change: process ids, files.  build() calls
# it; a test calls it again after it has started a server anew.
sub remember
{
	my ($self, @nodes) = @_;
	foreach my $node (@nodes ? @nodes : $self->nodes)
	{
		$self->{before}{$node} = {
			pid   => $self->postmaster_pid($node),
			files => { $self->configuration_files($node) },
		};
	}
	return;
}

# Tests that the cluster is whole: a leader, all others stream from it, every
# node shows the same rows, nothing that remember() saw has changed, the
# arguments and settings of the servers are those that they were started with.
sub check_whole
{
	my ($self, $name, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $digest = 'SELECT count(*), md5(coalesce(string_agg(n::text, \',\' ORDER BY n), \'\')) FROM public.';
	my $leader = $self->wait_for_leader(timeout => 30);
	my @followers = grep { $_ ne $leader } $self->nodes;

	$self->wait_for_follower($_, $opts{timeout}) foreach @followers;
	Test::More::pass("$name: $leader leads, @followers follow");

	# Clients may go on writing: what is compared is what the leader had before
	# the followers are asked, once they have replayed that.
	foreach my $table (qw(rows probes))
	{
		my ($upto, $lsn) = split /\|/,
			$self->psql($leader, "SELECT coalesce(max(xmin::text::bigint), 0), pg_current_wal_insert_lsn() FROM public.$table");
		my $where = " WHERE xmin::text::bigint <= $upto";
		my $expected;

		$self->poll_until(
			sub { $self->psql($leader, "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND transactionid::text::bigint <= $upto") == 0 },
			10, "transactions up to $upto to end");
		$expected = $self->psql($leader, $digest . $table . $where, timeout => 60);
		$lsn = $self->psql($leader, 'SELECT pg_current_wal_insert_lsn()');
		foreach my $node (@followers)
		{
			$self->poll_until(
				sub { $self->psql($node, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' },
				30, "$node to replay $lsn");
			Test::More::is($self->psql($node, $digest . $table . $where, timeout => 60),
				$expected, "$name: $table are the same on $node");
		}
	}
	foreach my $node ($self->nodes)
	{
		my $before = $self->{before}{$node} or next;
		Test::More::is($self->postmaster_pid($node), $before->{pid}, "$name: same process id of $node");
		Test::More::is_deeply({ $self->configuration_files($node) },
			$before->{files}, "$name: configuration files of $node untouched");
		next if $self->{plain};
		Test::More::is(
			$self->psql($node, q{SELECT current_setting('fsync') || ' ' || current_setting('work_mem')}),
			'on 5MB', "$name: settings of $node");
	}
	return $leader;
}

# The same at the end of a test with a writer and probers: they are stopped,
# and what they saw is checked.  losses: as in the writer's check_rows.
sub check_end
{
	my ($self, $name, $writer, $probers, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$self->wait_for_leader(timeout => 30);
	$writer->wait_for_acks(10);
	$_->stop foreach ($writer, $probers);
	my $leader = $self->check_whole($name, %opts);
	$probers->check($name);
	$writer->check_rows($leader, name => $name, losses => $opts{losses});
	return $leader;
}

# Tests elector_history: the terms are 1 apart, no timeline is used twice.
sub check_history
{
	my ($self, $name, $node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @history = $self->query_history($node // $self->wait_for_leader);
	my %used;
	my @twice = grep { $used{ $_->{timeline} }++ } grep { defined $_->{timeline} } @history;

	Test::More::is(join(' ', map { $_->{term} } @history),
		join(' ', $history[0]{term} .. $history[0]{term} + $#history), "$name: terms are 1 apart");
	Test::More::is(join(' ', map { $_->{timeline} } @twice), '', "$name: no timeline used twice");
	Test::More::note(join ' ', map { $_ . '=' . ($history[-1]{$_} // '') } sort keys %{ $history[-1] });
	return @history;
}

# The term that a node is in.
sub term { my ($self, $node) = @_; return $self->psql($node, 'SELECT elector_term()') }

#--------------------------------------------------------------------------
# Clients; see ElectorClients
#--------------------------------------------------------------------------

# The extension, the peers' role, and what the clients need.
sub create_schema
{
	my ($self, $node) = @_;
	unless ($self->{plain})
	{
		my $peer = $self->{peer};
		$self->psql($node, "CREATE ROLE $peer LOGIN REPLICATION") if $peer ne 'postgres';
		$self->psql($node, 'CREATE EXTENSION pg_elector');
		$self->psql($node, "SELECT elector_grant_peer('$peer')") if $peer ne 'postgres';
	}
	return $self->create_tables($node);
}

# The application's role and tables.
sub create_tables
{
	my ($self, $node) = @_;
	$self->psql($node, <<'END');
CREATE ROLE app LOGIN;
CREATE TABLE public.rows (n bigint NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE public.probes (node text NOT NULL, n bigint NOT NULL);
ALTER TABLE public.rows OWNER TO app;
ALTER TABLE public.probes OWNER TO app;
CREATE TABLE public.registers (id int PRIMARY KEY, value bigint NOT NULL);
INSERT INTO public.registers SELECT id, 0 FROM generate_series(0, 63) AS id;
ALTER TABLE public.registers OWNER TO app;
END
	return;
}

# The client program, and what judges registers, which lies beside it; built here
# when the environment does not name it.
sub client_program
{
	my ($self) = @_;
	return $self->{client} //= $ENV{ELECTOR_CLIENT} // do
	{
		chomp(my $include = must_run({}, 'pg_config', '--includedir'));
		chomp(my $lib = must_run({}, 'pg_config', '--libdir'));
		must_run({}, 'cc', '-O2', "-I$include", '-o', "$self->{base}/client",
			"$kit_directory/client.c", glob("$kit_directory/client/*.c"), "-L$lib", '-lpq');
		must_run({}, 'cc', '-O2', '-o', "$self->{base}/linearizable", "$kit_directory/linearizable.c");
		"$self->{base}/client";
	};
}

sub _client
{
	my ($self, $client) = @_;
	push @{ $self->{clients} }, $client;
	weaken($self->{clients}[-1]);
	return $client;
}

sub start_writer  { my ($self, %o) = @_; return $self->_client(ElectorWriter->new($self, %o)) }
sub start_probers { my ($self, %o) = @_; return $self->_client(ElectorProbers->new($self, %o)) }
sub start_registers { my ($self, %o) = @_; return $self->_client(ElectorRegisters->new($self, %o)) }
sub session       { my ($self, $node, %o) = @_; return $self->_client(ElectorSession->new($self, $node, %o)) }

1;
