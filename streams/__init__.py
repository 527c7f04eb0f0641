"""From feeds to triggers: fetchers publish events, the Faust app makes journal records and a graph of them,
and one pure fold over each journal decides when a model is retrained. Never imports `trainers`."""
