#!/usr/bin/env escript
%%! -kernel logger_level none
%% What OTP itself does at the operations of supervision.py: a line each, name and figure (per second; memory in bytes).
-module(supervision).
-mode(compile).
-export([main/1, init/1, handle_call/3, handle_cast/2, sleeper/0, sleeper_init/1, crasher/0, crasher_init/1, server/0]).

-define(LIVE, 10000).
-define(STARTS, 5000).
-define(BLOCKS, 15).
-define(CALLS, 20000).
-define(CASTS, 100000).
-define(STOPPED, 5000).
-define(IDLE, 20000).

main(_) ->
    process_flag(trap_exit, true),
    say("start.static", start_with_ids()),
    say("start", start_alike()),
    say("restart", restart()),
    say("call", call()),
    say("cast", cast()),
    say("stop.soft", median([stop(server) || _ <- lists:seq(1, ?BLOCKS)])),
    say("memory.child", memory(sleeper)),
    say("memory.actor", memory(server)).

start_with_ids() ->
    Sup = supervisor({one_for_one, 10, 1, []}),
    Start = fun(N) -> {ok, _} = supervisor:start_child(Sup, spec(N, sleeper)) end,
    lists:foreach(Start, lists:seq(1, ?LIVE)),
    Rate = rate(?STARTS, fun() -> lists:foreach(Start, lists:seq(?LIVE + 1, ?LIVE + ?STARTS)) end),
    stop_sup(Sup),
    Rate.

start_alike() ->
    Sup = supervisor({simple_one_for_one, 10, 1, [spec(any, sleeper)]}),
    Start = fun(_) -> {ok, _} = supervisor:start_child(Sup, []) end,
    lists:foreach(Start, lists:seq(1, ?LIVE)),
    Rate = rate(?STARTS, fun() -> lists:foreach(Start, lists:seq(1, ?STARTS)) end),
    stop_sup(Sup),
    Rate.

%% A fresh supervisor for each 20 crashes: its list of restarts is looked through at each of them.
restart() ->
    median([restart_20() || _ <- lists:seq(1, 200)]).

restart_20() ->
    register(bench_driver, self()),
    Sup = supervisor({one_for_one, 100, 1, [spec(crasher, crasher)]}),
    First = receive {up, Pid} -> Pid end,
    Rate = rate(20, fun() -> lists:foldl(fun(_, P) -> P ! crash, receive {up, Q} -> Q end end, First, lists:seq(1, 20)) end),
    stop_sup(Sup),
    unregister(bench_driver),
    Rate.

call() ->
    {ok, Pid} = server(),
    Loop = fun() -> lists:foreach(fun(N) -> N = gen_server:call(Pid, N) end, lists:seq(1, ?CALLS)) end,
    Loop(),
    median([rate(?CALLS, Loop) || _ <- lists:seq(1, ?BLOCKS)]).

cast() ->
    {ok, Pid} = server(),
    Loop = fun() ->
        lists:foreach(fun(N) -> gen_server:cast(Pid, N) end, lists:seq(1, ?CASTS)),
        gen_server:call(Pid, 0)
    end,
    Loop(),
    median([rate(?CASTS, Loop) || _ <- lists:seq(1, ?BLOCKS)]).

stop(What) ->
    Sup = supervisor({simple_one_for_one, 10, 1, [spec(any, What)]}),
    lists:foreach(fun(_) -> {ok, _} = supervisor:start_child(Sup, []) end, lists:seq(1, ?STOPPED)),
    rate(?STOPPED, fun() -> stop_sup(Sup) end).

memory(What) ->
    Sup = supervisor({simple_one_for_one, 10, 1, [spec(any, What)]}),
    erlang:garbage_collect(Sup),
    Before = erlang:memory(total),
    lists:foreach(fun(_) -> {ok, _} = supervisor:start_child(Sup, []) end, lists:seq(1, ?IDLE)),
    erlang:garbage_collect(Sup),
    Each = (erlang:memory(total) - Before) / ?IDLE,
    stop_sup(Sup),
    Each.

%% -- children

sleeper() -> proc_lib:start_link(?MODULE, sleeper_init, [self()]).
sleeper_init(Parent) ->
    proc_lib:init_ack(Parent, {ok, self()}),
    receive never -> ok end.

crasher() -> proc_lib:start_link(?MODULE, crasher_init, [self()]).
crasher_init(Parent) ->
    proc_lib:init_ack(Parent, {ok, self()}),
    bench_driver ! {up, self()},
    receive crash -> exit(crash) end.

server() -> gen_server:start_link(?MODULE, server, []).
handle_call(N, _From, State) -> {reply, N, State}.
handle_cast(_N, State) -> {noreply, State}.

%% -- helpers

init(server) -> {ok, nothing};
init({Strategy, Count, Period, Specs}) -> {ok, {{Strategy, Count, Period}, Specs}}.

supervisor(Arg) ->
    {ok, Sup} = supervisor:start_link(?MODULE, Arg),
    Sup.

spec(Id, What) -> #{id => Id, start => {?MODULE, What, []}}.

stop_sup(Sup) ->
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end.

rate(N, Fun) ->
    Begin = erlang:monotonic_time(nanosecond),
    Fun(),
    N * 1.0e9 / (erlang:monotonic_time(nanosecond) - Begin).

median(Values) -> lists:nth(length(Values) div 2 + 1, lists:sort(Values)).

say(Name, Value) -> io:format("~s ~.1f~n", [Name, float(Value)]).
