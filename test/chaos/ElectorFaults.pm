# ElectorFaults.pm
#
# Randomized faults: what happens to whom, when, and for how long, from a seed; and
# how each is begun and ended in a cluster of the kit.
#
#   my $faults = ElectorFaults->new(seed => 7, cluster => $cluster, policies => [ 'any 1' ]);
#   my $round = $faults->next_round;     # { calm, faults => [ ... ] }
#   $faults->begin($_), ... $faults->end($_) foreach @{ $round->{faults} };
#   $faults->heal;
#
# A round is one fault or a burst of them.  The sequence of rounds with all their
# parameters comes from the seed alone: nothing that the cluster does is asked.  So a
# target may be a role ("leader", "follower 2"), which is looked up when the fault
# begins; who that is depends on the machines' timing.
#
# The trap: faults of a burst meet on one node.  A fault that is not possible any more
# (no such process, server already dead) is said so and does nothing; ending one never
# assumes what state the node is in; heal() looks at what is really there.
#
# The generator is here because Perl's own is used by others, too, in between.

use strict;
use warnings;

#--------------------------------------------------------------------------
package ElectorChance;

# Park and Miller's.
sub new
{
	my ($class, $seed) = @_;
	my $self = bless { x => (abs(int $seed) * 48271 + 11) % 2147483646 + 1 }, $class;
	$self->_next foreach 1 .. 10;
	return $self;
}

sub _next { my ($self) = @_; return $self->{x} = $self->{x} * 48271 % 2147483647 }

# From 0 to less than n.
sub below { my ($self, $n) = @_; return $self->_next % $n }
sub pick { my ($self, @list) = @_; return $list[ $self->below(scalar @list) ] }
sub percent { my ($self, $percent) = @_; return $self->below(100) < $percent }

# Seconds, with hundredths.
sub seconds
{
	my ($self, $least, $most) = @_;
	return ($least * 100 + $self->below(($most - $least) * 100 + 1)) / 100;
}

# A key of a hash of weights.
sub weighted
{
	my ($self, %weights) = @_;
	my $sum = 0;
	$sum += $_ foreach values %weights;
	my $at = $self->below($sum);
	foreach my $key (sort keys %weights)
	{
		$at -= $weights{$key};
		return $key if $at < 0;
	}
	die "no weights";
}

#--------------------------------------------------------------------------
package ElectorFaults;

use ElectorProcess qw(now spawn process_alive wait_gone run_command);
use File::Path qw(remove_tree);
use Test::More ();
use Time::HiRes qw(sleep);

# Processes of a server by their titles.
my %titles = (
	'client'            => qr/^postgres: app postgres /,
	'walsender'         => qr/^postgres: walsender /,
	'walreceiver'       => qr/^postgres: walreceiver/,
	'startup'           => qr/^postgres: startup/,
	'checkpointer'      => qr/^postgres: checkpointer/,
	'background writer' => qr/^postgres: background writer/,
	'pg_elector'        => qr/^postgres: pg_elector\s*$/,
);

# What there is.  Of each kind:
#   weight   how often
#   on       'node', 'member' (of etcd), 'zone', or nothing
#   lasts    [ from, to ] seconds
#   make     further parameters, from chance
#   begin, end
#   safe     enough is left for writes to go on, or to come back, before it ends; a sub
#            is asked with the fault
#   twice    may happen only once in a round
my %kinds = (
	'kill postmaster' => {
		weight => 10, on => 'node', lasts => [ 0.2, 6 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->{cluster}->kill_postmaster($f->{node}); $self->{down}{ $f->{node} } = 1 },
		end => sub { my ($self, $f) = @_; $self->bring_up($f->{node}) },
	},
	'dead host' => {
		weight => 10, on => 'node', lasts => [ 0.2, 8 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->take_down($f->{node}) },
		end => sub { my ($self, $f) = @_; $self->bring_up($f->{node}) },
	},
	'dead zone' => {
		weight => 4, on => 'zone', lasts => [ 0.2, 8 ], safe => sub { $_[1] =~ /^zones/ },
		begin => sub { my ($self, $f) = @_; $self->take_down($_) foreach $self->in_zone($f) },
		end => sub { my ($self, $f) = @_; $self->bring_up($_) foreach $self->in_zone($f) },
	},
	'dead host with etcd' => {
		weight => 5, on => 'node', lasts => [ 0.2, 8 ], safe => 1,
		make => sub { my ($self, $f) = @_; $f->{member} = $self->member },
		begin => sub {
			my ($self, $f) = @_;
			$self->take_down($f->{node});
			$self->{cluster}->kill_etcd($self->member_of($f));
		},
		end => sub { my ($self, $f) = @_; $self->bring_up_etcd; $self->bring_up($f->{node}) },
	},
	'stop' => {
		weight => 6, on => 'node', lasts => [ 0, 5 ], safe => 1,
		make => sub { my ($self, $f) = @_; $f->{mode} = $self->{chance}->pick(qw(fast fast immediate)) },
		begin => sub {
			my ($self, $f) = @_;
			my $cluster = $self->{cluster};
			$cluster->run_on($f->{node}, {}, 'pg_ctl', '-D', $cluster->data($f->{node}),
				'-m', $f->{mode}, '-W', 'stop')->{ok} or die "it does not run\n";
			$cluster->{node}{ $f->{node} }{state} = 'stopped';
			$self->{down}{ $f->{node} } = 1;
		},
		end => sub { my ($self, $f) = @_; $self->bring_up($f->{node}) },
	},
	'crash' => {
		weight => 8, on => 'node', lasts => [ 0, 0 ], safe => 1,
		make => sub {
			my ($self, $f) = @_;
			$f->{process} = $self->{chance}->pick(qw(client client walsender walreceiver
				  checkpointer pg_elector), 'background writer');
		},
		begin => sub { my ($self, $f) = @_; $self->signal('KILL', $f) },
	},
	'end process' => {
		weight => 4, on => 'node', lasts => [ 0, 0 ], safe => 1,
		make => sub { my ($self, $f) = @_; $f->{process} = $self->{chance}->pick(qw(walsender walreceiver pg_elector)) },
		begin => sub { my ($self, $f) = @_; $self->signal('TERM', $f) },
	},
	'stop elector' => {
		weight => 6, on => 'node', lasts => [ 0.2, 9 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->signal('STOP', { %$f, process => 'pg_elector' }) },
		end => sub { my ($self, $f) = @_; $self->continue_node($f->{node}) },
	},
	'stop process' => {
		weight => 7, on => 'node', lasts => [ 0.2, 7 ],
		make => sub {
			my ($self, $f) = @_;
			$f->{process} = $self->{chance}->pick(qw(postmaster walsender walreceiver startup checkpointer client));
		},
		begin => sub { my ($self, $f) = @_; $self->signal('STOP', $f) },
		end => sub { my ($self, $f) = @_; $self->continue_node($f->{node}) },
	},
	'stop node' => {
		weight => 10, on => 'node', lasts => [ 0.2, 9 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->{cluster}->stop_all($f->{node}) },
		end => sub { my ($self, $f) = @_; $self->continue_node($f->{node}) },
	},
	'cut' => {
		weight => 20, on => 'node', lasts => [ 0.2, 9 ],
		safe => sub { $_[0]{from} =~ /^(all|etcd|host)$/ },
		make => \&_make_cut,
		begin => sub { my ($self, $f) = @_; $self->cut($f) },
		end => sub { my ($self, $f) = @_; $self->{cluster}->heal($f->{node}) },
	},
	'flap' => {
		weight => 4, on => 'node', lasts => [ 1, 6 ],
		make => sub {
			my ($self, $f) = @_;
			_make_cut($self, $f);
			$f->{every} = $self->{chance}->seconds(0.1, 1.5);
		},
		begin => sub { my ($self, $f) = @_; $f->{next} = now(); $f->{is_cut} = 0 },
		tick => sub {
			my ($self, $f) = @_;
			return if now() < $f->{next};
			$f->{next} = now() + $f->{every};
			$f->{is_cut} = !$f->{is_cut};
			$f->{is_cut} ? $self->cut($f) : $self->{cluster}->heal($f->{node});
		},
		end => sub { my ($self, $f) = @_; $self->{cluster}->heal($f->{node}) },
	},
	'switchover' => {
		weight => 12, on => 'node', lasts => [ 0, 1 ], safe => 1,
		make => sub { my ($self, $f) = @_; $f->{to} = $self->{chance}->percent(50) ? $self->{chance}->pick($self->nodes) : '' },
		begin => sub {
			my ($self, $f) = @_;
			$self->background($f->{node}, 'SELECT elector_switchover('
				  . ($f->{to} ne '' ? "'$f->{to}', " : '') . "timeout => '5 s')");
		},
	},
	'failover' => {
		weight => 2, on => 'node', lasts => [ 0, 0 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->background($f->{node}, "SELECT elector_failover(timeout => '5 s')") },
	},
	'promote by hand' => {
		weight => 3, on => 'node', lasts => [ 0, 2 ],
		begin => sub { my ($self, $f) = @_; $self->background($f->{node}, 'SELECT pg_promote(false)') },
	},
	'pause cluster' => {
		weight => 2, on => 'node', lasts => [ 0.2, 5 ],
		begin => sub { my ($self, $f) = @_; $self->background($f->{node}, 'SELECT elector_pause()') },
		end => sub { my ($self, $f) = @_; $self->resume },
	},
	'policy' => {
		weight => 6, lasts => [ 0, 0 ], safe => 1,
		make => sub {
			my ($self, $f) = @_;
			$f->{policy} = $self->{chance}->pick(@{ $self->{policies} });
			$f->{nodes} = $self->{chance}->percent(25) ? [ grep { $self->{chance}->percent(50) } $self->nodes ]
			  : [ $self->nodes ];
		},
		begin => sub { my ($self, $f) = @_; $self->set_policy($f->{policy}, @{ $f->{nodes} }) },
	},
	'new disk' => {
		weight => 4, on => 'node', lasts => [ 0, 2 ], once => 1,
		begin => sub {
			my ($self, $f) = @_;
			die "it leads\n" if $f->{node} eq ($self->leader // '');
			$self->take_down($f->{node});
			remove_tree($self->{cluster}->data($f->{node}), $self->{cluster}->data($f->{node}) . '.pg_elector');
			$self->{empty}{ $f->{node} } = 1;
		},
	},
	'etcd: kill' => {
		weight => 5, on => 'member', lasts => [ 0, 6 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->{cluster}->kill_etcd($self->member_of($f)) },
		end => sub { my ($self, $f) = @_; $self->bring_up_etcd },
	},
	'etcd: stop' => {
		weight => 4, on => 'member', lasts => [ 0.2, 8 ], safe => 1,
		begin => sub { my ($self, $f) = @_; $self->{cluster}->stop_all($self->member_of($f)) },
		end => sub { my ($self, $f) = @_; $self->{cluster}->cont_all($_) foreach $self->{cluster}->members },
	},
	'etcd: cut' => {
		weight => 5, on => 'member', lasts => [ 0.2, 8 ], safe => 1,
		make => sub {
			my ($self, $f) = @_;
			$f->{from} = $self->{chance}->pick(qw(all etcd nodes));
			$f->{direction} = $self->{chance}->pick(qw(both both in out));
			$f->{refuse} = $self->{chance}->percent(20);
		},
		begin => sub {
			my ($self, $f) = @_;
			my $member = $self->member_of($f);
			my $from = $f->{from} eq 'nodes' ? [ $self->nodes ]
			  : $f->{from} eq 'etcd' ? [ grep { $_ ne $member } $self->{cluster}->members ] : 'all';
			$self->{cluster}->cut($member, from => $from, direction => $f->{direction}, refuse => $f->{refuse});
		},
		end => sub { my ($self, $f) = @_; $self->{cluster}->heal($_) foreach $self->{cluster}->members },
	},
	'etcd: no quorum' => {
		weight => 3, lasts => [ 0.2, 8 ],
		make => sub {
			my ($self, $f) = @_;
			$f->{how} = $self->{chance}->pick(qw(KILL TERM STOP));
			$f->{spared} = $self->{chance}->pick($self->{cluster}->members, 'nobody');
		},
		begin => sub {
			my ($self, $f) = @_;
			my @hit = grep { $_ ne $f->{spared} } $self->{cluster}->members;
			return map { $self->{cluster}->stop_all($_) } @hit if $f->{how} eq 'STOP';
			$self->{cluster}->_end_etcd($f->{how}, @hit);
		},
		end => sub {
			my ($self, $f) = @_;
			$self->{cluster}->cont_all($_) foreach $self->{cluster}->members;
			$self->bring_up_etcd;
		},
	},
);

# Options: seed, cluster, policies (a list to change between), zones (node => zone),
# leader (a sub that says who leads, or undef).
sub new
{
	my ($class, %opts) = @_;
	return bless {
		chance   => ElectorChance->new($opts{seed}),
		cluster  => $opts{cluster},
		policies => $opts{policies},
		zones    => $opts{zones},
		find     => $opts{leader},
		down     => {},    # nodes that were stopped or killed
		empty    => {},    # nodes whose disk is new
		paused   => 0,     # elector_pause() was asked for
		asked    => [],    # statements that may still be under way
		serial   => 0,
	}, $class;
}

sub nodes  { return $_[0]{cluster}->nodes }
sub leader { return $_[0]{find}->() }

#--------------------------------------------------------------------------
# What is to happen; from chance alone
#--------------------------------------------------------------------------

sub member
{
	my ($self) = @_;
	return $self->{chance}->percent(40) ? "etcd's leader" : $self->{chance}->pick($self->{cluster}->members);
}

sub _make_cut
{
	my ($self, $f) = @_;
	my $chance = $self->{chance};
	$f->{from} = $chance->weighted(all => 4, etcd => 4, peers => 2, clients => 1, host => 2);
	$f->{from_host} = $chance->pick($self->nodes, $self->{cluster}->members);
	$f->{direction} = $chance->pick(qw(both both in out));
	$f->{refuse}    = $chance->percent(20);
	return;
}

sub _make_fault
{
	my ($self, $name, $after) = @_;
	my $chance = $self->{chance};
	my $kind   = $kinds{$name};
	my $fault  = { kind => $name, after => $after, lasts => $chance->seconds(@{ $kind->{lasts} }) };

	my $on = $kind->{on} // '';
	if ($on eq 'node')
	{
		my $which = $chance->weighted(leader => 5, follower => 3, node => 2);
		$fault->{on} = $which eq 'leader' ? 'leader'
		  : $which eq 'follower' ? 'follower ' . (1 + $chance->below(scalar($self->nodes) - 1))
		  : $chance->pick($self->nodes);
	}
	$fault->{on} = $self->member if $on eq 'member';
	$fault->{on} = $chance->pick(sort values %{ $self->{zones} }) if $on eq 'zone';
	$kind->{make}->($self, $fault) if $kind->{make};
	return $fault;
}

sub next_round
{
	my ($self) = @_;
	my $chance = $self->{chance};
	my %round  = (calm => $chance->percent(60), faults => []);
	my $after  = 0;
	my %had;

	foreach my $number (1 .. $chance->weighted(1 => 50, 2 => 32, 3 => 18))
	{
		my $name = $chance->weighted(map { $_ => $kinds{$_}{weight} } keys %kinds);
		redo if $kinds{$name}{once} && $had{$name}++;
		push @{ $round{faults} }, $self->_make_fault($name, $after);
		$after += $chance->percent(30) ? 0 : $chance->seconds(0, 4);
	}
	return \%round;
}

sub describe
{
	my ($self, $f) = @_;
	my @words = ($f->{kind});
	push @words, "of $f->{on}" if defined $f->{on};
	push @words, "($f->{node})" if defined $f->{node} && $f->{node} ne $f->{on};
	push @words, "= $f->{process}" if defined $f->{process};
	push @words, $f->{mode} if defined $f->{mode};
	push @words, "from " . ($f->{from} eq 'host' ? $f->{from_host} : $f->{from}) if defined $f->{from};
	push @words, $f->{direction} if defined $f->{direction};
	push @words, 'refused' if $f->{refuse};
	push @words, "every $f->{every} s" if defined $f->{every};
	push @words, "to $f->{to}" if ($f->{to} // '') ne '';
	push @words, "and $f->{member}" if defined $f->{member};
	push @words, "'$f->{policy}' on @{$f->{nodes}}" if defined $f->{policy};
	push @words, "$f->{how} but $f->{spared}" if defined $f->{how};
	push @words, "for $f->{lasts} s" if $f->{lasts};
	return join ' ', @words;
}

# Is enough left, in a cluster that was whole, for writes to come back before the
# fault ends?  A policy that one node's loss may stop is not asked this.
sub is_safe
{
	my ($self, $policy, @faults) = @_;
	return 0 if @faults != 1 || $policy !~ / 1$/;
	my $safe = $kinds{ $faults[0]{kind} }{safe};
	return ref $safe ? $safe->($faults[0], $policy) : $safe;
}

#--------------------------------------------------------------------------
# Carrying it out
#--------------------------------------------------------------------------

# Who is meant, now.
sub _resolve
{
	my ($self, $f) = @_;
	my $on = $f->{on} // return;
	my $leader = $self->leader;
	my @followers = grep { $_ ne ($leader // '') } $self->nodes;

	if ($on eq 'leader') { $f->{node} = $leader // die "there is no leader\n" }
	elsif ($on =~ /^follower (\d+)/) { $f->{node} = $followers[ ($1 - 1) % @followers ] }
	elsif (grep { $_ eq $on } $self->nodes) { $f->{node} = $on }
	return;
}

sub begin
{
	my ($self, $f) = @_;
	$f->{begun} = eval { $self->_resolve($f); $kinds{ $f->{kind} }{begin}->($self, $f); 1 };
	$f->{why} = $@ unless $f->{begun};
	chomp $f->{why} if defined $f->{why};
	return $f->{begun};
}

sub tick
{
	my ($self, $f) = @_;
	my $tick = $kinds{ $f->{kind} }{tick};
	$tick->($self, $f) if $tick && $f->{begun};
	return;
}

sub end
{
	my ($self, $f) = @_;
	my $end = $kinds{ $f->{kind} }{end};
	$end->($self, $f) if $end && $f->{begun};
	return;
}

sub in_zone
{
	my ($self, $f) = @_;
	return grep { $self->{zones}{$_} eq $f->{on} } $self->nodes;
}

# The member of etcd that is meant.  Who leads etcd is asked of each, as any may be down.
sub member_of
{
	my ($self, $f) = @_;
	my $who = $f->{member} // $f->{on};
	return $f->{found} //= $who unless $who =~ /leader/;
	return $f->{found} if defined $f->{found};
	foreach my $member ($self->{cluster}->members)
	{
		my $leads = eval { $self->{cluster}->etcd_metric('etcd_server_is_leader', $member) };
		return $f->{found} = $member if $leads;
	}
	die "etcd has no leader\n";
}

sub cut
{
	my ($self, $f) = @_;
	die "from itself\n" if $f->{from} eq 'host' && $f->{from_host} eq $f->{node};
	$self->{cluster}->cut($f->{node}, from => $f->{from} eq 'host' ? $f->{from_host} : $f->{from},
		direction => $f->{direction}, refuse => $f->{refuse});
	return;
}

# Signal processes of a node: all of a kind.
sub signal
{
	my ($self, $signal, $f) = @_;
	my $cluster = $self->{cluster};
	my @pids = $f->{process} eq 'postmaster' ? grep { defined } $cluster->postmaster_pid($f->{node})
	  : $cluster->find_processes($f->{node}, $titles{ $f->{process} });
	@pids = $pids[0] if @pids && $signal eq 'KILL';
	die "it has no $f->{process}\n" unless @pids;
	kill $signal, @pids;
	return;
}

sub continue_node { my ($self, $node) = @_; kill 'CONT', $self->{cluster}->pids($node); $self->_look($node); return }

# The kit skips nodes of which it knows that they cannot answer.
sub _look
{
	my ($self, $node) = @_;
	$self->{cluster}{node}{$node}{state} = $self->{cluster}->pids($node) ? 'running' : 'stopped';
	return;
}

# A statement that is not waited for.
sub background
{
	my ($self, $node, $sql) = @_;
	my $cluster = $self->{cluster};
	my $log = sprintf '%s/asked%d.log', $cluster->base, ++$self->{serial};

	$self->{paused} = 1 if $sql =~ /elector_pause/;
	push @{ $self->{asked} }, spawn({ log => $log }, $cluster->bindir . '/psql', '-X', '-d',
		$cluster->conninfo($node), '-c', 'SET statement_timeout = 10000', '-c', $sql);
	return;
}

# Nobody knows whether the order has arrived, nor where it is taken back.
sub resume
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	foreach my $node ($self->nodes)
	{
		next unless $cluster->{node}{$node}{state} eq 'running';
		my $result = $cluster->try_psql($node, 'SELECT elector_resume()', timeout => 4);
		return $self->{paused} = 0 if $result->{ok};
	}
	return;
}

sub set_policy
{
	my ($self, $policy, @nodes) = @_;
	my $cluster = $self->{cluster};
	foreach my $node (@nodes)
	{
		next if $self->{empty}{$node};
		$cluster->set_line($node, 'pg_elector.durability', $policy);
		my $pid = $cluster->postmaster_pid($node);
		kill 'HUP', $pid if defined $pid && process_alive($pid);
	}
	return;
}

# A host dies with all that runs on it.
sub take_down
{
	my ($self, $node) = @_;
	$self->{cluster}->kill_all($node);
	$self->{down}{$node} = 1;
	return;
}

# A server that is to run: whatever is left of its older life ends first.
sub bring_up
{
	my ($self, $node) = @_;
	my $cluster = $self->{cluster};

	$cluster->revive($node);
	$self->continue_node($node);
	return if $self->{empty}{$node} || !delete $self->{down}{$node};
	$cluster->poll_until(sub { !grep { process_alive($_) } $cluster->pids($node) }, 70,
		"the processes of $node to end");
	$cluster->start($node, no_wait => 1);
	return;
}

sub bring_up_etcd
{
	my ($self) = @_;
	my @down = grep { !$self->{cluster}->pids($_) } $self->{cluster}->members;
	$self->{cluster}->start_etcd(@down) if @down;
	return;
}

# All faults end.  Returns the nodes whose server had ended by itself.
sub heal
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my @ended;

	foreach my $member ($cluster->members)
	{
		$cluster->heal($member);
		$cluster->cont_all($member);
	}
	$self->bring_up_etcd;
	foreach my $node ($self->nodes)
	{
		$cluster->heal($node);
		$cluster->revive($node);
		$self->continue_node($node);
		next if $self->{empty}{$node} || $cluster->pids($node);
		push @ended, $node;
		$cluster->start($node, no_wait => 1);
	}
	return @ended;
}

# What can be done only in a cluster that takes writes again.
sub repair
{
	my ($self) = @_;
	my $cluster = $self->{cluster};

	foreach my $pid (@{ $self->{asked} })
	{
		wait_gone(20, $pid) or kill 'KILL', $pid;
	}
	$self->{asked} = [];
	$self->resume if $self->{paused};
	foreach my $node (sort keys %{ $self->{empty} })
	{
		$cluster->add_node($node, from => $cluster->wait_for_leader(timeout => 30));
		$cluster->start($node);
		delete $self->{empty}{$node};
	}
	return;
}

1;
