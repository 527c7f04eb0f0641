"""Answers whose every sentence has a source.

    question ──subject──> id ──graph──> Evidence ──facts──> sentences with their sources
                                            └──prompt──> generator ──check──> sentences with their sources

What the generator says and the evidence does not is left out, and counted. Without a generator the facts answer.
"""
