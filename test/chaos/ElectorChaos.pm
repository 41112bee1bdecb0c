# ElectorChaos.pm
#
# A cluster under randomized faults, and a checker that remembers every acknowledged
# row: none lost, none doubled, never two writers, and every node the same in the end.
#
#   ElectorChaos->new(nodes => 5, policy => 'zones 1', seed => 7)->run(faults => 200);
#
# Several writers, each with a table of its own, write all the time, through whichever
# node takes it; a prober on each node tries that node alone.  Faults come in rounds
# (ElectorFaults).  What is asked:
#
#  - while a fault lasts that leaves enough for the policy, in a cluster that was whole:
#    that writes come back before it ends;
#  - after each round, when everything is healed: that writes come back within a bound;
#  - every few rounds, and in the end: that all nodes follow and all members are in the
#    rule; then clients are stopped, and all tables are compared, on all nodes, with each
#    other and with all that was acknowledged since the beginning; and indexes and heaps
#    are verified.
#
# A trigger adds each row of the first table to a counter of another, so that a part of
# a transaction is seen to be missing, and so that writers wait for each other's locks.
#
# The trap: a row whose outcome nobody knows may be there or not; only what the server
# has refused must not be.

package ElectorChaos;

use strict;
use warnings;

use ElectorCluster;
use ElectorFaults;
use List::Util qw(max min);
use Test::More;
use Time::HiRes qw(sleep);

# Seconds: how soon writes come back during a fault that leaves enough, and when all is
# healed; how soon all is whole then.
my $during_bound = 30;
my $healed_bound = 60;
my $whole_bound  = 120;

# Rounds between two comparisons of the tables.
my $rounds_between = 12;

# The writers: how often and how patiently they write.
my %writers = (
	w1 => { interval_ms => 2,  statement_ms => 1000 },
	w2 => { interval_ms => 5,  statement_ms => 300 },
	w3 => { interval_ms => 10, statement_ms => 20000 },
	w4 => { interval_ms => 20, statement_ms => 1000, connect_ms => 1000 },
);

# Who waits for a dead host does not tell whether others can write.
my @impatient = qw(w1 w2 w4);

# Options: nodes (3), policy ('any 1'), seed, ttl ('3s'), settings.
sub new
{
	my ($class, %opts) = @_;
	my $nodes = $opts{nodes} // 3;
	my $self  = bless {
		seed   => $opts{seed},
		policy => $opts{policy} // 'any 1',
		# two nodes in each of the first zones, where there are enough
		zones => { map { ("n$_" => $nodes < 5 ? "z$_" : 'z' . int(($_ + 1) / 2)) } 1 .. $nodes },
		rounds => 0,
		faults_done => 0,
		acked  => {},    # table => { n => 1 }
		refused => {},
		next   => { map { $_ => 1 } keys %writers },
		probes => [],
		recoveries => [],    # seconds, of each round: when all was healed
		during => [],        # and while a fault lasted
	}, $class;

	my $cluster = $self->{cluster} = ElectorCluster->new(
		nodes    => $nodes,
		etcd     => 3,
		etcd_in_memory => 1,
		zones    => $self->{zones},
		ttl      => $opts{ttl} // '3s',
		settings => {
			'pg_elector.durability'       => $self->{policy},
			'pg_elector.follower_timeout' => '5s',
			# a node that is killed while it is rewound has to be cloned
			'pg_elector.rejoin'           => 'clone',
			checkpoint_timeout            => '30s',
			max_wal_size                  => '128MB',
			# all of it is copied by a rewind
			wal_keep_size                 => '96MB',
			%{ $opts{settings} // {} },
		});
	$cluster->build;
	$self->_create_tables;
	$self->{faults} = ElectorFaults->new(
		seed     => $self->{seed},
		cluster  => $cluster,
		policies => [ $self->{policy}, $self->{policy}, 'any 1', 'any 2', 'zones 1' ],
		zones    => $self->{zones},
		leader   => sub { $self->writing_node });
	return $self;
}

sub _create_tables
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	$cluster->psql($cluster->wait_for_leader, <<'END');
CREATE EXTENSION amcheck;
CREATE TABLE w1 (n bigint NOT NULL);
CREATE TABLE w2 (n bigint NOT NULL, filler text DEFAULT repeat('w', 500));
CREATE TABLE w3 (n bigint NOT NULL);
CREATE TABLE w4 (n bigint NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE INDEX ON w1 (n);
CREATE INDEX ON w2 (filler, n);
CREATE INDEX ON w4 (at);
CREATE TABLE counters (k bigint PRIMARY KEY, v bigint NOT NULL);
INSERT INTO counters SELECT k, 0 FROM generate_series(0, 15) AS k;
CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN UPDATE counters SET v = v + 1 WHERE k = NEW.n % 16; RETURN NULL; END $$;
CREATE TRIGGER count_row AFTER INSERT ON w1 FOR EACH ROW EXECUTE FUNCTION count_row();
CREATE TRIGGER count_row AFTER INSERT ON w3 FOR EACH ROW EXECUTE FUNCTION count_row();
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
END
	return;
}

sub cluster { return $_[0]{cluster} }

#--------------------------------------------------------------------------
# Clients
#--------------------------------------------------------------------------

sub start_clients
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	$self->{writers} = {
		map {
			$_ => $cluster->start_writer(table => "public.$_", start => $self->{next}{$_},
				no_wait => 1, %{ $writers{$_} })
		} keys %writers
	};
	$self->{probers} = $cluster->start_probers;
	return;
}

# Stop them, and remember what they saw.
sub stop_clients
{
	my ($self) = @_;

	$_->stop foreach values %{ $self->{writers} }, $self->{probers};
	foreach my $table (sort keys %{ $self->{writers} })
	{
		my $writer = $self->{writers}{$table};
		my $next = $self->{next}{$table};
		foreach ($writer->acks)
		{
			$self->{acked}{$table}{ $_->{n} } = 1;
			$next = $_->{n} + 1 if $_->{n} >= $next;
		}
		foreach (@{ $writer->{refused} })
		{
			$self->{refused}{$table}{ $_->{n} } = 1;
			$next = $_->{n} + 1 if $_->{n} >= $next;
		}
		foreach (@{ $writer->{unknown} }) { $next = $_->{n} + 1 if $_->{n} >= $next }
		$self->{next}{$table} = $next;
	}
	push @{ $self->{probes} }, $self->{probers}->acks;
	delete @{$self}{qw(writers probers)};
	return;
}

# The last acknowledgement of a writer.
sub _last
{
	my ($writer) = @_;
	$writer->_read;
	return $writer->{acks}[-1];
}

# Which node took the last row?
sub writing_node
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my ($last) = sort { $b->{acked} <=> $a->{acked} } grep { defined } map { _last($_) } values %{ $self->{writers} };
	return undef unless defined $last;
	my ($node) = grep { $cluster->address($_) eq $last->{host} } $cluster->nodes;
	return $node;
}

# Have the writers been acknowledged something that was sent since then?
sub writes_flow
{
	my ($self, $since) = @_;
	foreach my $writer (@{ $self->{writers} }{@impatient})
	{
		my $last = _last($writer);
		return 0 unless defined $last && $last->{sent} >= $since;
	}
	return 1;
}

# Until writes flow; false when the bound has passed.  call: what to do meanwhile.
sub wait_for_writes
{
	my ($self, $bound, $call) = @_;
	my $since = now_us();
	while (!$self->writes_flow($since))
	{
		return 0 if now_us() > $since + $bound * 1e6;
		$call->() if $call;
		sleep(0.02);
	}
	return 1;
}

#--------------------------------------------------------------------------
# Rounds
#--------------------------------------------------------------------------

sub say
{
	my ($self, $text) = @_;
	note(sprintf '%8.2f %s', now() - $self->{began}, $text);
	return;
}

# What every node thinks, for one who has to find out.
sub show_state
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	foreach my $node ($cluster->nodes)
	{
		my $result = $cluster->try_psql($node,
			"SELECT 'lead ' || elector_is_leader() || ' ' || row_to_json(s) FROM elector_status AS s", timeout => 4);
		diag("$node: " . ($result->{ok} ? $result->{out} : $result->{err}));
		$result = $cluster->try_psql($node, 'SELECT row_to_json(d) FROM elector_durability AS d', timeout => 4);
		diag("$node: $result->{out}") if $result->{ok};
		diag("$node: processes " . join ' ', $cluster->pids($node));
	}
	my %keys = eval { $cluster->etcd_keys };
	diag("$_ = $keys{$_}") foreach grep { !/history/ } sort keys %keys;
	$cluster->show_logs(40);
	return;
}

sub give_up
{
	my ($self, $what) = @_;
	fail($what);
	$self->show_state;
	die "$what\n";
}

# All nodes follow, and the policy is in force with all of them.
sub wait_until_whole
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $wanted  = join ' ', $self->{policy}, '-', sort $cluster->nodes;
	my $found   = '';
	my $until   = now() + $whole_bound;

	# what a node that was being rewound or cloned has set may be older
	$self->{faults}->set_policy($self->{policy}, $cluster->nodes);
	while (now() < $until)
	{
		my $leader = $cluster->leader;
		if (defined $leader)
		{
			my $result = $cluster->try_psql($leader, 'SELECT node, rule, next, member, lag_bytes FROM elector_durability', timeout => 4);
			my @rows = map { [ split /\|/, $_, -1 ] } split /\n/, $result->{out};
			$found = join ' ', $rows[0][1], $rows[0][2] || '-', map { $_->[0] } grep { $_->[3] eq 't' } @rows if @rows;
			my %state = map { ($_->{node} => $_->{state}) } $cluster->query_status($leader);
			return $leader if $found eq $wanted && !grep { $_ ne $leader && ($state{$_} // '') ne 'streaming' } $cluster->nodes;
		}
		sleep(0.1);
	}
	$self->give_up("whole within $whole_bound s (rule and members: $found)");
	return;
}

sub _carry_out
{
	my ($self, $round, $hold) = @_;
	my $faults = $self->{faults};
	my $began  = now();
	my @todo   = @{ $round->{faults} };
	my @lasting;
	my $result;

	while (@todo || @lasting)
	{
		while (@todo && now() >= $began + $todo[0]{after})
		{
			my $fault = shift @todo;
			my $done = $faults->begin($fault);
			$self->say('  ' . $faults->describe($fault) . ($done ? '' : ": not possible, $fault->{why}"));
			$fault->{until} = now() + $fault->{lasts};
			push @lasting, $fault;
			$self->{faults_done}++ if $done;
		}
		$faults->tick($_) foreach @lasting;
		if ($hold && @lasting && !defined $result && $lasting[0]{begun})
		{
			my $since = now();
			$result = $self->wait_for_writes($during_bound, sub { $faults->tick($_) foreach @lasting }) ? now() - $since : -1;
		}
		foreach my $fault (grep { now() >= $_->{until} } @lasting)
		{
			$faults->end($fault);
			$self->say("  $fault->{kind} ends") if $fault->{begun} && $fault->{lasts};
			$fault->{over} = 1;
		}
		@lasting = grep { !$_->{over} } @lasting;
		sleep(0.01);
	}
	return $result;
}

sub do_round
{
	my ($self) = @_;
	my $faults = $self->{faults};
	my $round  = $faults->next_round;
	my $number = ++$self->{rounds};
	my $hold   = $round->{calm} && $faults->is_safe($self->{policy}, @{ $round->{faults} });

	$self->wait_until_whole if $round->{calm};
	$self->say("round $number" . ($round->{calm} ? ', in a cluster that is whole' : ''));
	my $since  = now_us();
	my $during = $self->_carry_out($round, $hold);
	if (defined $during)
	{
		$self->give_up("round $number: writes come back within $during_bound s during " . $faults->describe($round->{faults}[0]))
		  if $during < 0;
		push @{ $self->{during} }, $during;
	}

	my $healed = now();
	my @ended = $faults->heal;
	$self->say("  healed; had ended by themselves: @ended") if @ended;
	$self->wait_for_writes($healed_bound)
	  or $self->give_up("round $number: writes come back within $healed_bound s of its end");
	push @{ $self->{recoveries} }, now() - $healed;
	$faults->repair;
	pass(sprintf 'round %d: writes came back%s %.1f s after its end, %s leads; longest pause %.1f s',
		$number, defined $during ? sprintf(' %.1f s after its beginning,', $during) : '',
		now() - $healed, $self->writing_node, $self->{writers}{w1}->longest_gap(since => $since) / 1000);
	return;
}

#--------------------------------------------------------------------------
# Comparing
#--------------------------------------------------------------------------

# Count and digest of a table, whatever the order of its rows.
sub _digest
{
	my ($self, $node, $table) = @_;
	return $self->{cluster}->psql($node,
		"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM public.$table AS t", timeout => 120);
}

sub _check_rows
{
	my ($self, $leader, $table, $name) = @_;
	my (%count, @lost);
	$count{$_}++ foreach split /\n/, $self->{cluster}->psql($leader, "SELECT n FROM public.$table", timeout => 120);
	my @doubled = grep { $count{$_} > 1 } keys %count;
	my @ghosts = grep { $count{$_} } keys %{ $self->{refused}{$table} };
	@lost = sort { $a <=> $b } grep { !$count{$_} } keys %{ $self->{acked}{$table} };

	my $acked = keys %{ $self->{acked}{$table} };
	cmp_ok($acked, '>', 0, "$name: $table: some rows were acknowledged");
	is("@lost", '', "$name: $table: all $acked acknowledged rows are there");
	is("@doubled", '', "$name: $table: none twice");
	is("@ghosts", '', "$name: $table: none that was refused");
	return;
}

sub compare
{
	my ($self, $name) = @_;
	my $cluster = $self->{cluster};

	$self->wait_until_whole;
	$self->stop_clients;
	my $leader = $self->wait_until_whole;
	my $lsn = $cluster->psql($leader, 'SELECT pg_current_wal_lsn()');
	$self->_check_rows($leader, $_, $name) foreach sort keys %writers;
	is($cluster->psql($leader, 'SELECT sum(v) FROM counters'),
		$cluster->psql($leader, 'SELECT (SELECT count(*) FROM w1) + (SELECT count(*) FROM w3)', timeout => 120),
		"$name: what transactions did in two tables fits");

	my %digest = map { $_ => $self->_digest($leader, $_) } sort(keys %writers), 'counters', 'probes';
	foreach my $node (grep { $_ ne $leader } $cluster->nodes)
	{
		$cluster->poll_until(sub { $cluster->psql($node, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' },
			30, "$node to replay $lsn");
		is(join(' ', map { "$_:" . $self->_digest($node, $_) } sort keys %digest),
			join(' ', map { "$_:$digest{$_}" } sort keys %digest), "$name: $node has what $leader has");
	}
	foreach my $node ($cluster->nodes)
	{
		my $result = $cluster->run_on($node, { timeout => 300 }, 'pg_amcheck', '-h', "$cluster->{sockets}/$node",
			'-U', 'postgres', '--heapallindexed', 'postgres');
		is($result->{out} . $result->{err}, '', "$name: pg_amcheck on $node") unless $result->{ok};
		pass("$name: pg_amcheck on $node") if $result->{ok};
	}
	ElectorClients::check_one_writer($self->{probes}, $name);
	return;
}

# Terms grow, and a timeline belongs to one promotion: it comes again only where its
# leader was established once more in place (I9).
sub check_history
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my @history = $cluster->query_history($cluster->wait_for_leader);
	my (%leader, @wrong);

	foreach my $i (0 .. $#history)
	{
		my $entry = $history[$i];
		my $timeline = $entry->{timeline} // next;
		push @wrong, "term $entry->{term} after $history[$i - 1]{term}" if $i > 0 && $entry->{term} <= $history[$i - 1]{term};
		push @wrong, "timeline $timeline of $leader{$timeline} and $entry->{leader}"
		  if ($leader{$timeline} //= $entry->{leader}) ne $entry->{leader};
	}
	is(join(', ', @wrong), '', 'in the end: ' . @history . ' leaderships, terms grow and no two promotions share a timeline');
	return;
}

# Options: faults (how many), or seconds.
sub run
{
	my ($self, %opts) = @_;
	$self->{began} = now();
	$self->start_clients;
	while (defined $opts{faults} ? $self->{faults_done} < $opts{faults} : now() < $self->{began} + $opts{seconds})
	{
		$self->do_round;
		next if $self->{rounds} % $rounds_between;
		$self->compare("after $self->{faults_done} faults");
		$self->start_clients;
	}
	$self->wait_for_writes($healed_bound) or $self->give_up('writes flow in the end');
	$self->compare("after all $self->{faults_done} faults");
	$self->check_history;

	my @sorted = sort { $a <=> $b } @{ $self->{recoveries} };
	note(sprintf '%d faults in %d rounds; writes came back, after all was healed, in %.1f s (median), %.1f s (longest)',
		$self->{faults_done}, $self->{rounds}, $sorted[ $#sorted / 2 ], $sorted[-1]) if @sorted;
	return;
}

1;
