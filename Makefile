# Makefile
#	  Build, install, try and test pg_elector.
#
#	  make setup	install the Debian packages that are missing (apt-get)
#	  make			build the library and the program
#	  make install	put them where this PostgreSQL looks for them
#	  make demo		three servers and an etcd, a crash and a switchover
#	  make test		everything; the last line is "N passed, N failed"
#	  make bench	failover times and overhead
#	  make sim		the decisions in simulated worlds: SEEDS= FROM= JOBS=
#	  make sim-negatives	every rule broken on purpose is found there
#	  make chaos	a real cluster under randomized faults: SEED= FAULTS= NODES= POLICY=
#
# Another PostgreSQL: make PG_CONFIG=/path/to/pg_config.  With a compiler whose
# warnings are not known yet: make WERROR=

PG_CONFIG = pg_config
WERROR = -Werror

# What the library and the program share comes first: src/core is pure, src/etcd
# knows no PostgreSQL (see src/README).
CORE_OBJS = $(patsubst %.c,%.o,$(wildcard src/core/*.c))
ETCD_OBJS = $(patsubst %.c,%.o,$(wildcard src/etcd/*.c))
SERVER_OBJS = $(patsubst %.c,%.o,$(wildcard src/server/*.c))
PROGRAM_OBJS = $(patsubst %.c,%.o,$(wildcard src/program/*.c))

MODULE_big = pg_elector
OBJS = $(SERVER_OBJS) $(ETCD_OBJS) $(CORE_OBJS)
EXTENSION = pg_elector
DATA = $(wildcard pg_elector--*.sql)
# For libraries that bring a durability policy of their own.
HEADERS_pg_elector = src/core/policy.h

PGFILEDESC = "pg_elector - PostgreSQL servers that elect their own primary"

# The program has a rule of its own below: PGXS cannot link one beside
# MODULE_big.
SCRIPTS_built = $(if $(PROGRAM_OBJS),pg_elector)

WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-clobbered $(WERROR)
PG_CFLAGS = $(WARNINGS)
PG_CPPFLAGS = -Isrc -I$(libpq_srcdir) -MMD -MP
SHLIB_LINK = $(libpq) -lcurl -lcjson -lcrypto -lmicrohttpd -lgnutls

EXTRA_CLEAN = build $(PROGRAM_OBJS) $(wildcard src/*/*.d) src/server/http_page.inc tmp_check

# Nothing here is inlined into queries, so no bitcode.
override with_llvm = no

# setup is there to install pg_config, and what calls setup must work without.
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
all install clean:
	@echo "$(PG_CONFIG) or PostgreSQL's development files are missing: make setup" >&2; exit 1
endif

-include $(wildcard src/*/*.d build/*/*.d)

.DEFAULT_GOAL := all

$(PROGRAM_OBJS): override CPPFLAGS += -DFRONTEND

src/server/answers.o: src/server/http_page.inc

src/server/http_page.inc: src/server/http_page.pl src/server/http_page.html
	perl $^ >$@.new
	mv $@.new $@

pg_elector: $(PROGRAM_OBJS) $(ETCD_OBJS) $(CORE_OBJS)
	$(CC) $(CFLAGS) $^ -L$(pkglibdir) -lpgfeutils $(libpq_pgport) $(LDFLAGS) $(LDFLAGS_EX) -lcurl -lcjson -lcrypto -o $@

#
# Helpers of the tests, and the unit tests: these carry sanitizers, and objects
# of their own.
#
KIT_PROGRAMS = $(patsubst test/kit/%.c,build/kit/%,$(wildcard test/kit/*.c))
UNIT_PROGRAMS = $(patsubst test/unit/%.c,build/unit/%,$(wildcard test/unit/test_*.c))
UNIT_OBJS = $(patsubst src/%.o,build/unit/%.o,$(ETCD_OBJS) $(CORE_OBJS))
UNIT_CFLAGS = -std=gnu99 -g -O1 -fno-omit-frame-pointer -D_GNU_SOURCE \
	-fsanitize=address,undefined -fno-sanitize-recover=all $(WARNINGS)

kit: $(KIT_PROGRAMS)
unit: $(UNIT_PROGRAMS)

build/kit/%: test/kit/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Wno-missing-format-attribute -I$(libpq_srcdir) $(filter %.c,$^) -L$(libdir) -lpq -o $@

build/kit/client: $(wildcard test/kit/client/*.[ch])

build/unit/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -MMD -MP -c $< -o $@

build/unit/test_%: test/unit/test_%.c $(UNIT_OBJS)
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -Isrc $< $(UNIT_OBJS) -lcurl -lcjson -lcrypto -lpthread -o $@

.SECONDARY: $(UNIT_OBJS)

-include $(wildcard build/unit/*/*.d)

#
# The simulator, three times: with the library's own objects, under sanitizers,
# and with rules that can be broken on purpose (test/sim/README).
#
SIM_SOURCES = $(wildcard test/sim/*.c)
SIM_HEADERS = test/sim/sim.h $(wildcard src/core/*.h)
SIM_CFLAGS = -std=gnu99 -g -O2 -D_GNU_SOURCE -Isrc -Itest/sim $(WARNINGS)
SIM_PROGRAMS = build/sim/sim build/sim/sim_sanitized build/sim/sim_breakable

SEEDS = 20000
FROM = 1
JOBS = $(shell nproc)

build/sim/sim: $(SIM_SOURCES) $(SIM_HEADERS) $(CORE_OBJS)
	@mkdir -p $(@D)
	$(CC) $(SIM_CFLAGS) $(SIM_SOURCES) $(CORE_OBJS) -o $@

build/sim/sim_sanitized: $(SIM_SOURCES) $(SIM_HEADERS) $(filter build/unit/core/%,$(UNIT_OBJS))
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -Isrc -Itest/sim $(SIM_SOURCES) $(filter build/unit/core/%,$(UNIT_OBJS)) -o $@

build/sim/sim_breakable: $(SIM_SOURCES) $(SIM_HEADERS) $(wildcard src/core/*.c)
	@mkdir -p $(@D)
	$(CC) $(SIM_CFLAGS) -DELECTOR_BREAKABLE $(SIM_SOURCES) $(wildcard src/core/*.c) -o $@

sim-programs: $(SIM_PROGRAMS)

sim: build/sim/sim
	build/sim/sim --from=$(FROM) --seeds=$(SEEDS) --jobs=$(JOBS)

sim-negatives: build/sim/sim_breakable
	test/sim/negatives

#
# These bring what they need, pg_config included.
#
setup:
	@test/setup

demo:
	@test/demo

test:
	@test/run $(TESTS)

bench:
	@test/bench/run

chaos: kit
	@test/chaos/run $(if $(SEED),--seed='$(SEED)') $(if $(FAULTS),--faults='$(FAULTS)') \
		$(if $(NODES),--nodes='$(NODES)') $(if $(POLICY),--policy='$(POLICY)')

.PHONY: setup demo test bench chaos kit unit sim-programs sim sim-negatives
