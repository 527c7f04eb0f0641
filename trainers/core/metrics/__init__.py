"""Evaluation metrics, as `schemas.scores.TaskScores`.

classification   micro and macro F1, and the scores of each label
ranking          recall@k and NDCG@k, and two baselines that rank
"""
