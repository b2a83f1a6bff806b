# What a policy's documents say of a connection, read as they are written: no index, no table.
package oracle

import rego.v1

answers := [answer(case.policy, case.today, request) |
	some case in data.cases
	some request in case.requests
]

answer(policy, today, request) := sprintf("ALLOW %s/rule-%d", [first[0], first[1] + 1]) if {
	first := min(granting(policy, today, request))
} else := "DENY default"

# Rules are consulted by the name of their policy, then as they are written.
granting(policy, today, request) := {[document.name, number] |
	[source, destination, port] := request
	source != destination
	declared(policy, source)
	port in ports(policy, destination)
	some document in policy.access
	some number, rule in document.rules
	in_force(rule, today)
	named(rule.from, source)
	some to in rule.to
	named(to, destination)
	port in to.ports
}

in_force(rule, today) if rule.expires >= today

in_force(rule, _) if not rule.expires

# A star stands for one whole segment of a path.
named(side, party) if glob.match(side.spiffe, ["/"], party)

named(side, party) if party == concat("", ["external:", side.external])

declared(policy, party) if policy.services[party]

declared(policy, party) if policy.externals[party]

ports(policy, party) := policy.services[party]

ports(policy, party) := policy.externals[party]
