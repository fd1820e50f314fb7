"""Which attack of which class is tried at which door: names of tests, or why there is nothing to try.

Classes are those of the founders' list (attacks.md, A to D and F): names, HTTP and TLS, DNS, ways around the proxy,
pretended programs. Doors: `connect`, `socks`, `capture` (each plain and with TLS), `forward` (absolute form), `dns` and
`local` (policy.local). `kernel` is what no door can see, `policy` what is refused before there is a door.
`test_attack_table` holds this to the tests that exist.
"""

# ruff: noqa: E501 - names of tests are as long as they are
from __future__ import annotations

HTTP_DOORS = ("connect", "socks", "capture", "forward")
DOORS = (*HTTP_DOORS, "dns", "local")

EVERY = "tests/supervisor/proxy/test_every_way.py"
DOOR = "tests/supervisor/proxy/test_doors.py"
GUARD = "tests/supervisor/proxy/test_destination.py"
LOCAL = "tests/supervisor/proxy/test_local.py"
DNS = "tests/supervisor/proxy/test_policy_dns.py"
WILD = "tests/supervisor/proxy/test_wildcards.py"
TIME = "tests/supervisor/proxy/test_time.py"
E2E = "tests/e2e/test_attacks_doors.py"
NET = "tests/e2e/test_attacks_network.py"
KERNEL = "tests/e2e/test_attacks_kernel.py"
INSIDE = "tests/e2e/test_walls.py"
CAPTURE = "tests/e2e/test_doors.py"
WALLS = "tests/isolation/test_walls.py"
WHO = "tests/isolation/test_identity.py"
POLICY = "tests/policy/test_attacks.py"

NAMES = {
    "connect": f"{NET}::test_no_spelling_of_a_host_gets_through_a_door",
    "forward": f"{NET}::test_no_spelling_of_a_host_gets_through_a_door",
    "socks": f"{E2E}::test_no_spelling_of_a_host_gets_through",
    "capture": f"{E2E}::test_no_spelling_of_a_host_gets_through",
    "dns": f"{E2E}::test_policy_dns_gives_no_odd_name_an_address",
}
NOT_A_NAME = {"local": "one name, compared in its canonical form"}
INWARD = {
    **dict.fromkeys(("connect", "socks", "capture"), f"{DOOR}::test_an_allowed_name_that_leads_inward_is_refused"),
    "forward": f"{GUARD}::test_an_allowed_name_that_resolves_inward",
}
NOTHING_DIALLED = {"dns": "its answers are synthetic: nothing is resolved", "local": "nothing is dialled"}
NO_HTTP = {"dns": "no HTTP", "local": "no policy is asked: routes and methods are its own"}


def every(test: str) -> dict[str, str]:
    return dict.fromkeys(HTTP_DOORS, f"{EVERY}::{test}")


TABLE: dict[str, dict[str, str]] = {
    "A-1": {**NAMES, "policy": f"{POLICY}::test_a1_nul_in_a_host"},
    "A-2": {**NAMES, "policy": f"{POLICY}::test_a2_control_blank_and_percent_in_a_host"},
    "A-3": {**NAMES, "local": f"{LOCAL}::test_spellings_of_the_door", "policy": f"{POLICY}::test_a3_spelling_variants"},
    "A-4": {**NAMES, "policy": f"{POLICY}::test_a4_suffix_and_userinfo_tricks"},
    "A-5": {**NAMES, "policy": f"{POLICY}::test_a5_odd_ipv4_spellings"},
    "A-6": {**NAMES, **INWARD, "policy": f"{POLICY}::test_a6_ipv4_inside_ipv6_is_the_same_host"},
    "A-7": {**NAMES, **INWARD, "policy": f"{GUARD}::test_always_blocked_is_not_overridable"},
    "A-8": {
        **INWARD,
        "connect": f"{GUARD}::test_rebinding_dials_only_what_was_checked",
        "policy": f"{GUARD}::test_a_tunnel_checks_again_when_its_addresses_are_old",
    },
    "A-9": {**NAMES, "capture": f"{CAPTURE}::test_a_name_at_an_address_of_ones_own_leads_to_the_name"},
    "A-10": INWARD,
    "A-11": {"policy": f"{POLICY}::test_a11_wildcards_that_match_too_much"},
    "A-12": {**INWARD, "policy": f"{GUARD}::test_one_bad_address_refuses_the_set"},
    "B-1": every("test_b1_what_is_judged_is_what_is_sent"),
    "B-2": every("test_b2_an_encoded_slash_opens_one_endpoint_and_no_other"),
    "B-3": {
        **every("test_b3_framing_with_two_readings_is_400_and_the_end"),
        "local": f"{LOCAL}::test_b3_framing_with_two_readings_never_reaches_the_handler",
        "dns": f"{DNS}::test_a_tcp_client_that_breaks_the_framing_is_cut_off",
    },
    "B-4": {
        **every("test_b4_each_pipelined_request_is_judged_on_its_own"),
        "local": f"{LOCAL}::test_b4_a_pipelined_second_request_is_not_answered",
    },
    "B-5": every("test_b5_an_upgrade_out_of_what_is_inspected_is_refused"),
    "B-6": every("test_b6_no_answer_but_a_proven_101_leaves_http"),
    "B-7": {
        **every("test_b7_b9_a_request_names_the_host_that_was_admitted"),
        "capture": f"{CAPTURE}::test_a_fronted_name_does_not_pass",
    },
    "B-8": {
        **dict.fromkeys(("connect", "socks", "capture"), f"{E2E}::test_what_is_neither_http_nor_tls_ends_there"),
        "forward": "tests/supervisor/proxy/test_forward.py::test_malformed_targets_are_400_with_one_line",
    },
    "B-9": every("test_b7_b9_a_request_names_the_host_that_was_admitted"),
    "B-10": every("test_b1_what_is_judged_is_what_is_sent"),
    "B-11": dict.fromkeys(("connect", "socks", "capture"), f"{E2E}::test_what_is_neither_http_nor_tls_ends_there"),
    "B-12": {
        **every("test_b12_empty_never_means_everything"),
        "policy": f"{POLICY}::test_b12_empty_never_means_everything",
    },
    "B-13": dict.fromkeys(HTTP_DOORS, f"{E2E}::test_another_port_of_an_allowed_host_and_a_special_host_elsewhere"),
    "B-14": {
        **dict.fromkeys(HTTP_DOORS, f"{E2E}::test_another_port_of_an_allowed_host_and_a_special_host_elsewhere"),
        "local": f"{LOCAL}::test_connect_to_it_is_refused_with_the_way_in",
    },
    "B-15": {**every("test_b15_method_games"), "policy": f"{POLICY}::test_b15_methods"},
    "B-16": {**every("test_b16_query_games"), "policy": f"{POLICY}::test_b16_queries"},
    "B-17": every("test_b17_no_framing_of_messages_dodges_the_rules"),
    "B-18": dict.fromkeys(
        HTTP_DOORS,
        "tests/supervisor/proxy/test_bodies.py::test_every_door_judges_what_requests_carry_and_sends_it_unchanged",
    ),
    "B-19": every("test_b19_a_redirect_or_a_hint_leads_nowhere_new"),
    "B-20": {
        "kernel": f"{NET}::test_datagrams_stay_inside",
        "capture": f"{DOOR}::test_no_hint_at_http3_reaches_the_client",
    },
    "B-21": {
        **dict.fromkeys(
            HTTP_DOORS,
            "tests/supervisor/proxy/test_memory.py::test_clients_that_take_no_answer_cannot_hold_more_than_the_limit",
        ),
        "connect": f"{TIME}::test_a_request_body_needs_a_minimum_of_bytes_each_minute",
        "forward": "tests/supervisor/proxy/test_framing.py::test_slow_heads_run_into_a_deadline",
        "socks": f"{DOOR}::test_a_socks_client_that_dawdles_is_cut_off",
        "capture": f"{CAPTURE}::test_a_silent_client_of_a_refused_destination_is_reset",
        "local": f"{LOCAL}::test_slow_bodies_are_408",
        "dns": f"{DNS}::test_a_flood_of_names_writes_little_and_repetitions_are_one_refusal",
    },
    "B-22": dict.fromkeys(("connect", "socks", "capture"), f"{EVERY}::test_b22_a_bad_certificate_is_never_signed_over"),
    "C-1": {
        "dns": f"{CAPTURE}::test_every_server_is_policy_dns",
        "kernel": f"{CAPTURE}::test_no_datagram_finds_a_way_and_the_log_names_the_host",
    },
    "C-2": {
        **dict.fromkeys(
            ("connect", "socks", "capture"), f"{DOOR}::test_what_policy_does_not_name_is_denied_and_never_resolved"
        ),
        "forward": f"{GUARD}::test_denied_names_are_never_resolved",
        "dns": "tests/e2e/test_denials.py::test_denied_names_are_never_resolved_and_the_answer_is_structured",
    },
    "C-3": {"local": "tests/gateway/test_inbox.py::test_c3_a_proposed_name_is_looked_up_by_nobody"},
    "C-4": {
        **dict.fromkeys(HTTP_DOORS, f"{WILD}::test_names_under_a_wildcard_are_counted_at_every_door"),
        "dns": f"{DNS}::test_names_under_a_wildcard_run_out",
    },
    "D-1": {"kernel": f"{INSIDE}::test_dropping_the_proxy_variables_changes_nothing"},
    "D-2": {"capture": "tests/e2e/test_clients.py::test_a_program_that_ignores_the_proxy_fails_fast_and_is_reported"},
    "D-3": {
        "kernel": "tests/isolation/test_filesystem_policy.py::test_a_missing_path_is_reported_and_with_hard_requirement_an_error"
    },
    "D-4": {
        "kernel": "tests/isolation/test_filesystem_policy.py::test_without_user_namespaces_creation_stops_with_the_reason_and_the_fix"
    },
    "D-5": {
        "kernel": "tests/isolation/test_crash.py::test_a_dead_part_ends_its_sandbox_and_no_other",
        "capture": "tests/e2e/test_crash.py::test_supervisor_killed_under_capture_closes_what_was_captured",
    },
    "D-6": {"kernel": f"{WALLS}::test_no_route_to_the_hosts_listeners"},
    "D-7": {
        **every("test_f_whoever_is_not_certainly_an_allowed_program_gets_nothing"),
        "kernel": f"{WALLS}::test_one_sandbox_does_not_reach_another",
    },
    "F-1": {
        "kernel": f"{WHO}::test_a_false_name_does_not_help",
        **every("test_f_whoever_is_not_certainly_an_allowed_program_gets_nothing"),
    },
    "F-3": {"kernel": f"{WHO}::test_running_through_the_loader_is_the_loader"},
    "F-4": {"kernel": f"{WHO}::test_a_replaced_binary_is_refused_as_caller_and_as_ancestor"},
    "F-5": {
        "kernel": f"{WHO}::test_two_programs_that_connect_one_socket_are_nobody",
        **every("test_f_whoever_is_not_certainly_an_allowed_program_gets_nothing"),
    },
    "F-6": {"kernel": f"{KERNEL}::test_a_parent_that_becomes_an_allowed_program_lends_it_no_right"},
    "F-7": {"kernel": f"{WHO}::test_races_name_the_caller_every_time"},
}

WITHOUT: dict[str, str] = {
    "C-5": "an allowed name that answers questions is a way out for data: a limit that docs/isolation.md states",
    "F-2": "code inside an allowed program is that program: a limit that docs/isolation.md states",
}
"""Classes that nothing refuses."""

NOT_AT: dict[str, dict[str, str]] = {
    **{f"A-{n}": NOT_A_NAME for n in (1, 2, 4, 5, 6, 7, 9)},
    **{f"A-{n}": NOTHING_DIALLED for n in (8, 10, 12)},
    "A-7": {**NOT_A_NAME},
    "A-11": dict.fromkeys(DOORS, "no such policy is ever loaded"),
    **{f"B-{n}": NO_HTTP for n in (1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 18, 19)},
    "B-22": {**NO_HTTP, "forward": "plain HTTP only: https:// is refused"},
    "B-4": {"dns": "every question is answered on its own"},
    "B-11": {**NO_HTTP, "forward": "a CONNECT inside of one is the forward door's own word"},
    "B-14": {"dns": "an address is no right to a port"},
    "B-20": dict.fromkeys(("connect", "socks", "forward", "dns", "local"), "TCP, or questions to ourselves"),
    "C-1": dict.fromkeys(("connect", "socks", "capture", "forward", "local"), "no DNS"),
    "C-2": {"local": "nothing is resolved"},
    "C-3": dict.fromkeys(("connect", "socks", "capture", "forward", "dns"), "proposals come through policy.local"),
    "C-4": {"local": "nothing is resolved"},
    **{f"D-{n}": dict.fromkeys(DOORS, "the walls' matter") for n in (1, 3, 4, 6)},
    **{f"D-{n}": dict.fromkeys(("connect", "socks", "forward", "dns", "local"), "the walls' matter") for n in (2, 5)},
    "D-7": {
        "dns": "UDP has no owner; answers are the same for all",
        "local": "no identity is asked: it cannot approve",
    },
    **{
        f"F-{n}": {"dns": "UDP has no owner; answers are the same for all", "local": "no identity is asked"}
        for n in (1, 5)
    },
    **{
        f"F-{n}": dict.fromkeys(DOORS, "identity is one module for all doors, tried on real processes")
        for n in (3, 4, 6, 7)
    },
}
